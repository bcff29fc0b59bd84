"""Only import statements change, and nothing moves."""

import ast
import builtins
import sys
import types
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hublock.runtime.modules.rewriting import compile_source, rewrite

OWN = {"models", "utils"}


def redirect(name: str) -> str | None:
    return f"far.away.{name}" if name.partition(".")[0] in OWN else None


def rewritten(source: str) -> str:
    module = ast.parse(source)
    rewrite(module, redirect)
    return ast.unparse(module)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("import os, sys", "import os, sys"),
        ("from . import models", "from . import models"),
        ("from .models import utils", "from .models import utils"),
        ("from modelsx import a", "from modelsx import a"),
        ("import models", "import far.away.models as models"),
        ("import models as m", "import far.away.models as m"),
        ("import models.a as m", "import far.away.models.a as m"),
        (
            "import models.a",
            "from far.away.models.a import __name__ as models\nimport far.away.models as models",
        ),
        ("import os, utils, sys as s", "import os\nimport far.away.utils as utils\nimport sys as s"),
        ("from models import a, b as c", "from far.away.models import a, b as c"),
        ("from models.a import *", "from far.away.models.a import *"),
        ("async def f():\n    async with x:\n        import utils", None),
        ("try:\n    import utils\nexcept* ImportError:\n    import models", None),
        ("for x in y:\n    pass\nelse:\n    import utils", None),
        ("class A:\n    import utils\n    while 1:\n        from utils import a", None),
    ],
)
def test_imports_of_its_own_are_redirected(source: str, result: str | None) -> None:
    expected = result or source.replace("import utils", "import far.away.utils as utils").replace(
        "import models", "import far.away.models as models"
    ).replace("from utils", "from far.away.utils")
    assert rewritten(source) == ast.unparse(ast.parse(expected))


def test_future_imports_and_docstrings_stay_first() -> None:
    code = compile_source(b'"""Doc."""\nfrom __future__ import annotations\nimport utils.a\n', "f.py", redirect)
    assert code.co_flags & 0x1000000
    assert code.co_consts[0] == "Doc."


def test_every_position_stays() -> None:
    source = "import utils.a, models; x = 1 / 0\ndef f():\n    from utils import g; return g(1 +\n        2)\n"
    old, new = ast.parse(source), ast.parse(source)
    rewrite(new, redirect)

    def places(tree: ast.AST) -> Iterator[tuple[object, ...]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.expr):
                yield ast.dump(node), node.lineno, node.col_offset, node.end_lineno, node.end_col_offset

    assert list(places(new)) == list(places(old))
    moved = [node for node in ast.walk(new) if isinstance(node, ast.Import | ast.ImportFrom | ast.alias)]
    assert {(node.lineno, node.end_lineno) for node in moved} == {(1, 1), (3, 3)}


@given(
    st.lists(
        st.sampled_from(sorted({"os", "os.path", "models", "models.a", "models.a.b", "utils", "json"})), min_size=1
    )
)
def test_the_same_names_are_bound_to_the_same_modules(names: list[str]) -> None:
    known = {
        prefix + name: types.ModuleType(prefix + name)
        for prefix in ("", "far.away.")
        for name in ("models", "models.a", "models.a.b", "utils")
    }
    known |= {name: types.ModuleType(name) for name in ("far", "far.away")}
    for name, module in known.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(known[parent], child, module)
        module.__path__ = []
    source = f"import {', '.join(names)}\n".encode()
    sys.modules.update(known)
    try:
        plain: dict[str, object] = {"__builtins__": vars(builtins)}
        exec(compile(source, "plain", "exec"), plain)
        moved: dict[str, object] = {"__builtins__": vars(builtins)}
        tree = ast.parse(source)
        rewrite(tree, redirect)
        exec(compile(tree, "moved", "exec"), moved)
    finally:
        for name in known:
            del sys.modules[name]
    assert plain.keys() == moved.keys()
    for name in plain.keys() - {"__builtins__"}:
        assert moved[name] is known.get(f"far.away.{name}", plain[name])


@pytest.mark.parametrize("source", [b"x = (", b"import", b"\xff\xfe = 1", b"# coding: klingon\n"])
def test_broken_source_is_the_compilers_error(source: bytes) -> None:
    with pytest.raises(SyntaxError) as plain:
        compile(source, "f.py", "exec")
    with pytest.raises(SyntaxError) as ours:
        compile_source(source, "f.py", redirect)
    assert str(ours.value) == str(plain.value)


@pytest.mark.parametrize(
    "source",
    [
        b"def f(): import utils",
        b"def f():\n    from models.a import b",
        b"def f():\n\timport os, models.a as m",
        b"class A:\n    def f(self):\n        x = 1; import json, utils",
        b"if x:\n    import utils",
    ],
)
def test_imports_inside_blocks_are_redirected_when_compiled(source: bytes) -> None:
    assert compile_source(source, "f.py", redirect) != compile(source, "f.py", "exec")


def test_source_without_inner_imports_of_its_own_is_compiled_as_it_stands() -> None:
    source = b"import os, utils\n# from elsewhere\nx = 'models'\ndef f():\n    from .models import x\n"
    assert compile_source(source, "f.py", redirect) == compile(source, "f.py", "exec")
