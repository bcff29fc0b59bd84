"""What a hubconf.py says of itself, read as text: nothing of it runs.

torch.hub offers every public callable of the module. Functions and classes that stand in the file are known whole;
imported names are known by name only; a hubconf that fills its namespace while it runs is ``dynamic``: here, only
running it would tell.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hublock.core.syntax import parse
from hublock.errors import InputError

HUBCONF = "hubconf.py"
LARGEST = 4 * 2**20
"""The longest Python file that is read, in bytes."""
FURTHEST = 200
"""Modules that are read to find one definition."""

_HINT = "pick another ref of the repository, such as a release tag: hublock add OWNER/REPO:REF ENTRYPOINT"
_FIXED = (
    ast.Constant | ast.List | ast.Tuple | ast.Set | ast.Dict | ast.ListComp | ast.SetComp | ast.DictComp
    | ast.GeneratorExp | ast.JoinedStr | ast.Compare | ast.BinOp | ast.UnaryOp
)  # fmt: skip
"""Expressions whose value cannot be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """One public callable of a hubconf.py."""

    name: str
    signature: str
    """Source text such as ``(pretrained=False, **kwargs)``; empty where only the name is known."""
    doc: str | None
    """Its docstring as it stands, which is what torch.hub.help returns."""
    parameters: tuple[str, ...]
    """The names of its parameters, without stars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hubconf:
    """A hubconf.py."""

    dependencies: tuple[str, ...]
    entrypoints: tuple[EntryPoint, ...]
    """Sorted by name, as torch.hub.list has them."""
    dynamic: bool
    """Whether there may be more than these: entry points or dependencies are made while the file runs."""
    imported: Mapping[str, tuple[str, str]] = field(default_factory=dict, compare=False, repr=False)
    """For names that another module defines: that module, with its dots, and the name there."""


def read_hubconf(source: bytes, *, file: str) -> Hubconf:
    """Read the source of a hubconf.py; ``file`` is its name in messages.

    Raises:
        InputError: it is not Python of the running version, or too large or too deeply nested to read.
    """
    reader = _Reader(parse_python(source, file))
    return Hubconf(
        dependencies=reader.dependencies,
        entrypoints=tuple(entry for _, entry in sorted(reader.found.items()) if not entry.name.startswith("_")),
        dynamic=reader.dynamic,
        imported=reader.imported,
    )


def not_a_repository(name: str, *, hint: str = "check the name and the ref") -> InputError:
    """Return the error for ``name``, which has no hubconf.py."""
    return InputError(f"{name} has no {HUBCONF}, so it is not a hub repository", hint=hint)


def without_modules(hubconf: Hubconf, read: Callable[[str], bytes | None], is_module: Callable[[str], bool]) -> Hubconf:
    """Leave out what is imported by name and is a module: it cannot be called.

    Args:
        hubconf: what hubconf.py says.
        read: gives the source of a file of the tree by its path, None where there is none.
        is_module: tells whether an absolute name is that of an installed module.
    """

    def can_be_called(name: str) -> bool:
        if name not in hubconf.imported:
            return True
        module, there = hubconf.imported[name]
        full = f"{module}{'' if module.endswith('.') else '.'}{there}"
        if any(read(path) is not None for path in _paths(full, HUBCONF)):
            return find_definition(name, read) is not None or _makes(there, module, read)
        return module.startswith(".") or not is_module(full)

    return replace(hubconf, entrypoints=tuple(entry for entry in hubconf.entrypoints if can_be_called(entry.name)))


def _makes(name: str, module: str, read: Callable[[str], bytes | None]) -> bool:
    """Say whether ``module``, as hubconf.py imports it, may give ``name`` a value that only running it tells."""
    for source in filter(None, map(read, _paths(module, HUBCONF))):
        with suppress(InputError):
            reader = _Reader(parse_python(source, module))
            return name in reader.made
    return False


def find_definition(name: str, read: Callable[[str], bytes | None]) -> EntryPoint | None:
    """Return what stands in a tree about ``name`` of hubconf.py, wherever imports lead; None if they leave the tree.

    Args:
        name: a name of that module.
        read: gives the source of a file of the tree by its path, None where there is none.
    """
    return _follow(name, read, HUBCONF, set())


def _follow(name: str, read: Callable[[str], bytes | None], file: str, seen: set[tuple[str, str]]) -> EntryPoint | None:
    source = None if (file, name) in seen or len(seen) > FURTHEST else read(file)
    seen.add((file, name))
    if source is None:
        return None
    try:
        reader = _Reader(parse_python(source, file))
    except InputError:
        return None
    if name in reader.imported:
        targets = [reader.imported[name]]
    elif name in reader.found:
        return reader.found[name]
    else:
        targets = [(module, name) for module in reader.stars]
    for module, there in targets:
        for path in _paths(module, file):
            found = _follow(there, read, path, seen)
            if found is not None:
                return replace(found, name=name)
    return None


def _paths(module: str, file: str) -> tuple[str, ...]:
    """Return the files that ``module``, as ``file`` imports it, may be; the root of the tree is on ``sys.path``."""
    plain = module.lstrip(".")
    level = len(module) - len(plain)
    base = file.split("/")[:-level] if level else []
    path = "/".join([*base, *filter(None, plain.split("."))])
    return (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)


def parse_python(source: bytes, file: str) -> ast.Module:
    """Parse Python source that others wrote; ``file`` is its name in messages.

    Raises:
        InputError: it is not Python of the running version, or too large or too deeply nested to read.
    """
    if len(source) > LARGEST:
        raise InputError(f"{file} is larger than {LARGEST // 2**20} MiB", hint=_HINT)
    try:
        parsed: ast.Module = parse(source)
    except SyntaxError as error:
        raise InputError(f"{file}:{error.lineno or 1}: syntax error: {error.msg}", hint=_HINT) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(
            f"{file} cannot be read as Python ({str(error) or 'it nests too deeply'})", hint=_HINT
        ) from None
    return parsed


class _Reader:
    """Walks the statements that run when the module is imported, in their order."""

    def __init__(self, module: ast.Module) -> None:
        self.found: dict[str, EntryPoint] = {}
        """Private names too: a public alias may point to one."""
        self.imported: dict[str, tuple[str, str]] = {}
        """For names that another module defines: that module, with its dots, and the name there."""
        self.made: set[str] = set()
        """Names of what is computed."""
        self.stars: list[str] = []
        """Modules that everything is imported from."""
        self.dependencies: tuple[str, ...] = ()
        self.dynamic = any(map(_fills_namespace, ast.walk(module)))
        self._said = False
        self._block(module.body, certain=True)

    def _block(self, body: list[ast.stmt], *, certain: bool) -> None:
        for statement in body:
            self._statement(statement, certain=certain)

    def _statement(self, node: ast.stmt, *, certain: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._define(_function(node))
            self.dynamic |= node.name == "__getattr__"
        elif isinstance(node, ast.ClassDef):
            self._define(_class(node))
        elif isinstance(node, ast.ImportFrom):
            self._names(node)
        elif isinstance(node, ast.Import):
            for alias in node.names if certain else ():
                self.found.pop(alias.asname or alias.name.partition(".")[0], None)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                self._assign(target, node, certain=certain)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                self.found.pop(getattr(target, "id", ""), None)
        elif isinstance(node, ast.Expr):
            self.dynamic |= _changes_dependencies(node.value)
        else:
            for body in _inner(node):
                self._block(body, certain=False)

    def _define(self, entry: EntryPoint) -> None:
        self.found[entry.name] = entry
        self.imported.pop(entry.name, None)

    def _names(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names if node.module != "__future__" else ():
            name = alias.asname or alias.name
            if name == "dependencies":
                self.dynamic = True
            elif name == "*":
                self.stars.append(module)
            else:
                self._define(EntryPoint(name=name, signature="", doc=None, parameters=()))
                self.imported[name] = (module, alias.name)

    def _assign(self, target: ast.expr, node: ast.Assign | ast.AnnAssign | ast.AugAssign, *, certain: bool) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            self.dynamic |= not isinstance(node.value, _FIXED)
        if not isinstance(target, ast.Name) or node.value is None:
            return
        name, value = target.id, node.value
        if name == "dependencies":
            self._depend(value, plain=not isinstance(node, ast.AugAssign))
        elif isinstance(value, ast.Name) and value.id in self.found:
            self._define(replace(self.found[value.id], name=name))
            if value.id in self.imported:
                self.imported[name] = self.imported[value.id]
        elif isinstance(value, ast.Lambda):
            self._define(_entry(name, value.args, None, None))
        elif isinstance(value, ast.Attribute) or _is_partial(value):
            self._define(EntryPoint(name=name, signature="", doc=None, parameters=()))
        elif isinstance(value, _FIXED):
            if certain:
                self.found.pop(name, None)
        else:
            self.made.add(name)
            self.dynamic |= name not in self.found and not name.startswith("_") and not name.isupper()

    def _depend(self, value: ast.expr, *, plain: bool) -> None:
        """Take a literal list; anything else, or a second one, is only known when it runs."""
        items = value.elts if isinstance(value, ast.List | ast.Tuple) else []
        names = [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        nothing = isinstance(value, ast.Constant) and value.value is None
        literal = (
            plain
            and not self._said
            and (nothing or (isinstance(value, ast.List | ast.Tuple) and len(names) == len(items)))
        )
        self._said = True
        self.dependencies = tuple(names) if literal else ()
        self.dynamic |= not literal


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> EntryPoint:
    return _entry(node.name, node.args, node.returns, _docstring(node))


def _class(node: ast.ClassDef) -> EntryPoint:
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            first = [*member.args.posonlyargs, *member.args.args][:1]
            for group in (member.args.posonlyargs, member.args.args):
                group[:] = [argument for argument in group if argument not in first]
            return _entry(node.name, member.args, None, _docstring(node))
    return EntryPoint(name=node.name, signature="", doc=_docstring(node), parameters=())


def _entry(name: str, arguments: ast.arguments, returns: ast.expr | None, doc: str | None) -> EntryPoint:
    listed = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    signature = f"({ast.unparse(arguments)})" + (f" -> {ast.unparse(returns)}" if returns else "")
    return EntryPoint(
        name=name,
        signature=signature,
        doc=doc,
        parameters=tuple(argument.arg for argument in listed if argument),
    )


def _docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str | None:
    text = ast.get_docstring(node, clean=False)
    if text is None:
        return None
    # the compiler of Python 3.13 and later takes the indentation away
    alone = ast.fix_missing_locations(ast.Module([ast.Expr(ast.Constant(text))], []))
    compiled: str = compile(alone, "docstring", "exec", dont_inherit=True, optimize=0).co_consts[0]
    return compiled


def _inner(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the blocks of a compound statement, except those an import never runs."""
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        if "__name__" not in test and test not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield node.body
        yield node.orelse
        return
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        inner = getattr(node, name, [])
        if name in ("handlers", "cases"):
            yield from (clause.body for clause in inner)
        else:
            yield inner


def _is_partial(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "partial"


def _changes_dependencies(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).startswith("dependencies.")


def _fills_namespace(node: ast.AST) -> bool:
    """Tell whether ``node`` may put names into the module that do not stand in its text."""
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "*" for alias in node.names)
    if isinstance(node, ast.Subscript):
        return _is_namespace(node.value) and not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
        return node.value is not None and _is_namespace(node.value)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return _is_namespace(node.func.value) and node.func.attr in ("update", "setdefault", "__setitem__")
        if isinstance(node.func, ast.Name):
            given = any(map(_is_namespace, node.args)) or any(_is_module(argument) for argument in node.args[:1])
            return node.func.id == "exec" or (given and node.func.id not in ("dir", "len", "sorted", "list", "getattr"))
    return False


def _is_namespace(node: ast.expr) -> bool:
    """Tell whether ``node`` is ``globals()``, ``vars()``, ``locals()`` or the ``__dict__`` of this very module."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("globals", "vars", "locals") and (not node.args or _is_module(node.args[0]))
    return isinstance(node, ast.Attribute) and node.attr == "__dict__" and _is_module(node.value)


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Subscript) and ast.unparse(node) == "sys.modules[__name__]"
