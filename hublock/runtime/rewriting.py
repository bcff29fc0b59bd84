"""Redirect a tree's absolute imports of itself, at compile time.

``import models.yolo`` becomes an import of ``hublock.repos.<tree>.models.yolo`` that binds the same name. Only import
statements change; every line and column stays, so tracebacks, ``inspect`` and TorchScript see the author's source.
"""

import ast
from collections.abc import Callable
from types import CodeType

Redirect = Callable[[str], str | None]
"""Absolute module name -> the full name under which this tree serves it; None if it is not the tree's."""


def compile_source(source: bytes, filename: str, redirect: Redirect) -> CodeType:
    """Compile ``source`` (its PEP 263 encoding declaration is honoured) with its own imports redirected.

    Raises:
        SyntaxError: as the compiler does.
        ValueError: the source holds null bytes.
    """
    module = ast.parse(source, filename)
    rewrite(module, redirect)
    code: CodeType = compile(module, filename, "exec", dont_inherit=True)
    return code


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
        target = redirect(statement.module)
        if target is not None:
            statement.module = target
    elif isinstance(statement, ast.Import) and any(redirect(alias.name) for alias in statement.names):
        return [new for alias in statement.names for new in _import(statement, alias, redirect)]
    return [statement]


def _import(statement: ast.Import, alias: ast.alias, redirect: Redirect) -> list[ast.stmt]:
    target = redirect(alias.name)
    if target is None:
        return [_one(statement, alias, alias.name, alias.asname)]
    if alias.asname is not None:
        return [_one(statement, alias, target, alias.asname)]
    top = alias.name.partition(".")[0]
    bind = _one(statement, alias, redirect(top) or top, top)
    # `import a.b` imports b and binds a: first the leaf under that name, then its root over it
    return [bind] if top == alias.name else [_one(statement, alias, target, top), bind]


def _one(statement: ast.Import, alias: ast.alias, name: str, asname: str | None) -> ast.stmt:
    new = ast.copy_location(ast.alias(name=name, asname=asname), alias)
    return ast.copy_location(ast.Import(names=[new]), statement)
