"""Whether it matters that a hubconf.py runs anew for each load, as torch.hub runs it: told by its source.

Many hold imports and functions only; whoever takes them as an earlier load has left them sees no difference. What is
not surely of that kind is said to keep something, which costs no more than to run it.
"""

import ast
from collections.abc import Iterable

from hublock.core.syntax import parse

_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_ACTS = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom, ast.GeneratorExp)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_READS = (ast.Attribute, ast.Subscript)
"""Of what others may have changed: an environment, a setting of another module."""
_REACHING = frozenset({
    "globals", "vars", "exec", "eval", "setattr", "delattr",
    "__annotations__", "__class__", "__dict__", "__globals__", "__kwdefaults__", "__name__", "__setattr__",
})  # fmt: skip
"""Names by which code reaches what it does not name."""
_BINDERS = frozenset({"staticmethod", "classmethod", "property"})


def keeps(source: bytes) -> bool:
    """Tell whether a second run of the module ``source`` may give something else than what the first has left.

    As it does something while it runs (a seed, a registration, an object that it makes), or as its functions keep
    something in it (a cache, a counter, a default that they change).
    """
    try:
        module = parse(source)
        return not _is_still(module.body) or _changes(module)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # as it nests deeply, or it cannot be imported either
        return True


def _holds(expression: ast.expr, kinds: tuple[type[ast.AST], ...]) -> bool:
    return any(isinstance(node, kinds) for node in ast.walk(expression))


def _is_still(statements: Iterable[ast.stmt], *, of_class: bool = False) -> bool:
    """Say whether statements only name things, and a class makes nothing that its methods could change."""
    return all(_is_still_one(statement, of_class=of_class) for statement in statements)


def _is_still_one(statement: ast.stmt, *, of_class: bool) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.If(test=test, body=body, orelse=orelse):
            return _does_nothing(test) and _is_still([*body, *orelse], of_class=of_class)
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
            handled = [inner for handler in handlers for inner in handler.body]
            return _is_still([*body, *handled, *orelse, *finalbody], of_class=of_class)
        case (
            ast.FunctionDef(args=args, decorator_list=decorators)
            | ast.AsyncFunctionDef(args=args, decorator_list=decorators)
        ):
            binds = [of_class and isinstance(by, ast.Name) and by.id in _BINDERS for by in decorators]
            return all(binds) and _is_fixed(args)
        case ast.ClassDef(body=body, bases=bases, keywords=[], decorator_list=[]):
            return not any(_holds(base, _ACTS) for base in bases) and _is_still(body, of_class=True)
        case ast.Expr(value=value):
            return isinstance(value, ast.Constant)
        case ast.Assign(targets=[ast.Name()], value=value):
            return _does_nothing(value) and not (of_class and _displays(value))
        case ast.AnnAssign(target=ast.Name(), value=value):
            return value is None or (_does_nothing(value) and not (of_class and _displays(value)))
    return False


def _does_nothing(expression: ast.expr) -> bool:
    lambdas = [node for node in ast.walk(expression) if isinstance(node, ast.Lambda)]
    return not _holds(expression, (*_ACTS, *_READS)) and all(_is_fixed(node.args) for node in lambdas)


def _is_fixed(arguments: ast.arguments) -> bool:
    defaults = [default for default in (*arguments.defaults, *arguments.kw_defaults) if default is not None]
    return all(_does_nothing(default) and not _displays(default) for default in defaults)


def _displays(expression: ast.expr) -> list[ast.AST]:
    return [node for node in ast.walk(expression) if isinstance(node, _DISPLAYS)]


def _changes(module: ast.Module) -> bool:
    """Say whether functions and classes may change what the module has named."""
    containers = _containers(module.body)
    definitions = [node for node in ast.walk(module) if isinstance(node, _DEFINITIONS)]
    return any(
        isinstance(node, ast.Global)
        or (isinstance(node, ast.Name) and node.id in (_REACHING | containers))
        or (isinstance(node, ast.Attribute) and (node.attr in _REACHING or _is_put_on(node)))
        for definition in definitions
        for node in ast.walk(definition)
    )


def _containers(statements: Iterable[ast.AST]) -> set[str]:
    """Return the names of lists, sets and dicts."""
    containers: set[str] = set()
    for statement in statements:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                # or a second name of one
                named = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
                if _displays(value) or named & containers:
                    containers.add(name)
            case ast.If() | ast.Try() | ast.ExceptHandler():
                containers |= _containers(ast.iter_child_nodes(statement))
    return containers


def _is_put_on(attribute: ast.Attribute) -> bool:
    """Say whether something becomes an attribute of anything that may be a function or class of the module."""
    holder = attribute.value
    is_self = isinstance(holder, ast.Name) and holder.id == "self"
    return not is_self and not isinstance(attribute.ctx, ast.Load)
