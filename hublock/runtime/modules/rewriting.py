"""Redirect a tree's absolute imports of itself, at compile time.

``import models.yolo`` becomes an import of ``hublock.repos.<tree>.models.yolo`` that binds the same name. Only import
statements change; every line and column stays, so tracebacks, ``inspect`` and TorchScript see the author's source.
"""

import ast
import re
from collections.abc import Callable
from types import CodeType

from hublock.core.syntax import parse

_INNER_IMPORT = re.compile(rb"^(?!from\b|import\b).*?\b(?:from|import)\b([^\n;#(]*)", re.MULTILINE)
_TOP = re.compile(rb"(?<![\w.])[A-Za-z_]\w*")

_SEARCH_PATH = re.compile(rb"\bsys\.path\b|\baddsitedir\b")

Redirect = Callable[[str], str | None]
"""Absolute module name -> the full name under which this tree serves it; None if it is not the tree's."""


def compile_source(source: bytes, filename: str, redirect: Redirect) -> CodeType:
    """Compile ``source`` (its PEP 263 encoding declaration is honoured) with its own imports redirected.

    Raises:
        SyntaxError: as the compiler does.
        ValueError: the source holds null bytes.
    """
    parsed: bytes | ast.Module = source
    if _may_import_its_own(source, redirect):
        parsed = tree = parse(source, filename)
        rewrite(tree, redirect)
    code: CodeType = compile(parsed, filename, "exec", dont_inherit=True)
    return code


def adds_folders(source: bytes) -> bool:
    """Tell whether a function in ``source`` may put folders on ``sys.path``, as it names that."""
    if not _SEARCH_PATH.search(source):
        return False
    try:
        functions = [node for node in ast.walk(parse(source)) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    except (SyntaxError, ValueError):
        return False
    return any(
        _SEARCH_PATH.fullmatch(ast.unparse(node).encode())
        for outer in functions
        for node in ast.walk(outer)
        if isinstance(node, ast.Attribute | ast.Name)
    )


def _may_import_its_own(source: bytes, redirect: Redirect) -> bool:
    """Tell by a glance whether a function, or any block, may hold an import to redirect.

    A detour over the syntax tree costs two compilations. The other imports, and what a glance overlooks (a continued
    line, a name that is not ASCII), are answered by the module's own ``__import__`` when they run; in functions that
    does not do, since torch.compile asks no ``__import__``.
    """
    words = {word for line in _INNER_IMPORT.findall(source) for word in _TOP.findall(line)}
    return any(redirect(word.decode()) for word in words)


def rewrite(module: ast.Module, redirect: Redirect) -> None:
    """Redirect the import statements of ``module`` in place.

    Statements are walked without recursion: a long ``elif`` chain or sum nests deeper than Python may recurse.
    """
    pending: list[ast.AST] = [module]
    while pending:
        node = pending.pop()
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                statements[:] = [new for old in statements for new in _redirected(old, redirect)]
                pending.extend(statements)
        pending.extend(getattr(node, "handlers", ()))
        pending.extend(getattr(node, "cases", ()))


def _redirected(statement: ast.stmt, redirect: Redirect) -> list[ast.stmt]:
    if isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
        statement.module = redirect(statement.module) or statement.module
    elif isinstance(statement, ast.Import) and any(redirect(alias.name) for alias in statement.names):
        return [new for alias in statement.names for new in _import(statement, alias, redirect)]
    return [statement]


def _import(statement: ast.Import, alias: ast.alias, redirect: Redirect) -> list[ast.stmt]:
    target = redirect(alias.name)
    top = alias.name.partition(".")[0]
    root = redirect(top)
    if target is None or root is None:
        return [_at(statement, ast.Import(names=[_named(alias, alias.name, alias.asname)]))]
    if alias.asname is not None:
        return [_at(statement, ast.Import(names=[_named(alias, target, alias.asname)]))]
    bind = _at(statement, ast.Import(names=[_named(alias, root, top)]))
    if top == alias.name:
        return [bind]
    # `import a.b` imports b and binds a; a is bound to something of b first, so that no other name is touched
    leaf = _at(statement, ast.ImportFrom(module=target, names=[_named(alias, "__name__", top)], level=0))
    return [leaf, bind]


def _at(old: ast.stmt, new: ast.stmt) -> ast.stmt:
    return ast.copy_location(new, old)


def _named(old: ast.alias, name: str, asname: str | None) -> ast.alias:
    return ast.copy_location(ast.alias(name=name, asname=asname), old)
