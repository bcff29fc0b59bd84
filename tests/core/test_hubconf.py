import warnings

import pytest

from hublock.core.hubconf import LARGEST, EntryPoint, Hubconf, find_definition, read_hubconf, without_modules
from hublock.errors import InputError

TYPICAL = '''
"""Models of a lab."""
from __future__ import annotations
dependencies = ["torch", "PIL"]

import torch, os.path
from torch.hub import load_state_dict_from_url as _load
from lab.models import Net, transforms as preprocessing

URLS = {"small": "https://example.org/small.pth"}
DEVICE = torch.device("cpu")
_cache = make_cache()


def _helper(x):
    return x


def small(pretrained: bool = False, *, width=(1, 2), **kwargs) -> "Net":
    """Build the small net.

        pretrained (bool): fetch weights
    """
    globals()["small"]
    return Net()


async def later(a, /, b=None, *rest): ...


class Big(Net):
    """A class is an entry point too."""

    def __init__(self, depth=50, progress=True):
        pass


class Plain: ...


tiny = small
Small = Net
lazy = lambda size=1: Net(size)
half = functools.partial(small, width=0.5)
resnet = torch.nn.Linear


if __name__ == "__main__":
    import argparse
    parser = argparse.ArgumentParser()
    def main(): ...
'''


def read(source: str) -> Hubconf:
    return read_hubconf(source.encode(), file="hubconf.py")


def names(source: str) -> list[str]:
    return [entry.name for entry in read(source).entrypoints]


def test_reads_a_typical_hubconf() -> None:
    hubconf = read(TYPICAL)
    assert hubconf.dependencies == ("torch", "PIL")
    assert not hubconf.dynamic
    found = {entry.name: entry for entry in hubconf.entrypoints}
    assert list(found) == [
        "Big", "Net", "Plain", "Small", "half", "later", "lazy", "preprocessing", "resnet", "small", "tiny",
    ]  # fmt: skip
    assert found["small"] == EntryPoint(
        name="small",
        signature="(pretrained: bool=False, *, width=(1, 2), **kwargs) -> 'Net'",
        doc=found["small"].doc,
        parameters=("pretrained", "width", "kwargs"),
    )
    assert found["later"].signature == "(a, /, b=None, *rest)"
    assert found["later"].parameters == ("a", "b", "rest")
    assert (found["Big"].signature, found["Big"].doc) == (
        "(depth=50, progress=True)",
        "A class is an entry point too.",
    )
    assert found["lazy"].signature == "(size=1)"
    assert found["tiny"] == EntryPoint(
        **{name: getattr(found["small"], name) for name in ("signature", "doc", "parameters")}, name="tiny"
    )
    for name in ("Net", "Small", "half", "preprocessing", "resnet", "Plain"):
        assert (found[name].signature, found[name].parameters) == ("", ())


def test_docstrings_are_those_that_python_gives() -> None:
    source = '''
def small():
    """Build the small net.

        pretrained (bool): fetch weights
    """
class Net:
    "One\\tline, \\n  then another."
def empty():
    ""
async def none():
    pass
'''
    made: dict[str, object] = {}
    exec(source, made)

    docs = {entry.name: entry.doc for entry in read(source).entrypoints}

    assert docs == {name: made[name].__doc__ for name in ("Net", "empty", "none", "small")}


def test_names_under_if_try_with_and_for_are_found() -> None:
    source = """
if True:
    def a(): ...
elif x:
    def b(): ...
else:
    from m import c
try:
    def d(): ...
except ImportError:
    def e(): ...
else:
    def f(): ...
finally:
    def g(): ...
with y:
    def h(): ...
for i in z:
    def i(): ...
match v:
    case 1:
        def j(): ...
if TYPE_CHECKING:
    from m import never
"""
    assert names(source) == list("abcdefghij")


def test_modules_constants_and_private_names_are_no_entry_points() -> None:
    source = "import torch\nimport a.b as c\nx = 1\ny = [1]\nz = f'{x}'\n_p = _q = lambda: 1\nfrom m import _r\n"
    assert read(source) == Hubconf(dependencies=(), entrypoints=(), dynamic=False)


def test_a_name_bound_again_is_what_it_was_bound_to_last() -> None:
    assert names("def a(): ...\na = 1\n") == []
    assert names("from m import a\nimport a\n") == []
    assert names("def a(): ...\ndel a\n") == []
    assert names("a = 1\ndef a(): ...\n") == ["a"]
    assert names("try:\n    from m import a\nexcept ImportError:\n    a = None\n") == ["a"]


def test_a_private_function_may_have_a_public_alias() -> None:
    (entry,) = read("def _make(n=1): ...\nmake = _make\n").entrypoints
    assert (entry.name, entry.signature) == ("make", "(n=1)")


@pytest.mark.parametrize(
    "line",
    [
        "globals().update(models)",
        "globals()[name] = f",
        "vars()[name] = f",
        "locals().setdefault(name, f)",
        "for m in models:\n    globals()[m] = make(m)",
        "def fill():\n    globals()['a'] = 1\nfill()",
        "g = globals()",
        "register(globals())",
        "setattr(sys.modules[__name__], name, f)",
        "sys.modules[__name__].__dict__.update(models)",
        "vars(sys.modules[__name__]).update(models)",
        "from models import *",
        "exec(code)",
        "def __getattr__(name): ...",
        "resnet = build('resnet')",
        "a, b = build_two()",
    ],
)
def test_a_namespace_filled_while_it_runs_is_dynamic(line: str) -> None:
    assert read(f"dependencies = ['torch']\n{line}\n").dynamic


@pytest.mark.parametrize(
    "line",
    [
        "def f(name):\n    return globals()[name]()",
        "_names = sorted(globals())",
        "setattr(x, 'a', 1)",
        "LIMIT = compute()",
        "_private = compute()",
        "print('hello')",
        "sys.path.insert(0, here)",
        "a, b = 1, 2",
    ],
)
def test_reading_the_namespace_or_computing_constants_is_not_dynamic(line: str) -> None:
    assert not read(f"{line}\n").dynamic


@pytest.mark.parametrize(
    ("source", "found", "dynamic"),
    [
        ("", (), False),
        ("dependencies = []", (), False),
        ("dependencies = ('torch', 'numpy')", ("torch", "numpy"), False),
        ("dependencies: list[str] = ['torch']", ("torch",), False),
        ("dependencies = None", (), False),
        ("if x:\n    dependencies = ['torch']", ("torch",), False),
        ("dependencies = ['torch'] + extra", (), True),
        ("dependencies = read()", (), True),
        ("dependencies = ['torch', name]", (), True),
        ("dependencies = [1]", (), True),
        ("dependencies = 'torch'", (), True),
        ("dependencies = ['torch']\ndependencies += ['numpy']", (), True),
        ("dependencies = ['torch']\ndependencies.append('numpy')", ("torch",), True),
        ("from m import dependencies", (), True),
        ("try:\n    dependencies = ['a']\nexcept E:\n    dependencies = ['b']", (), True),
    ],
)
def test_dependencies_are_read_only_where_they_are_literal(source: str, found: tuple[str, ...], dynamic: bool) -> None:
    hubconf = read(source)
    assert (hubconf.dependencies, hubconf.dynamic) == (found, dynamic)


def test_nothing_of_it_runs() -> None:
    assert names("raise SystemExit\ndef a(): ...\n") == ["a"]


def test_reads_the_encoding_that_the_file_declares() -> None:
    (entry,) = read_hubconf('# coding: latin-1\ndef a():\n    "é"\n'.encode("latin-1"), file="h").entrypoints
    assert entry.doc == "é"
    assert read_hubconf(b"\xef\xbb\xbfdef a(): ...\r\n", file="h").entrypoints[0].name == "a"


def test_odd_escapes_warn_nobody() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        read("x = '\\d'\n")
    assert seen == []


@pytest.mark.parametrize(
    ("source", "start"),
    [
        (b"def a(:\n", "o/r: hubconf.py:1: syntax error: "),
        (b"x = 1\nprint 'x'\n", "o/r: hubconf.py:2: syntax error: "),
        (b"if x:\npass\n", "o/r: hubconf.py:2: syntax error: "),
        (b"\xff\n", "o/r: hubconf.py:1: syntax error: "),
        (b"x = 1\0\n", "o/r: hubconf.py"),
        (b"x = " + b"(" * 5000 + b")" * 5000, "o/r: hubconf.py"),
        (b"def f(a=" + b"-" * 100_000 + b"1): ...", "o/r: hubconf.py"),
        (b"def f(a=1" + b"+1" * 100_000 + b"): ...", "o/r: hubconf.py"),
        (b"#" * (LARGEST + 1), "o/r: hubconf.py is larger than 4 MiB"),
    ],
)
def test_refuses_what_is_not_python(source: bytes, start: str) -> None:
    with pytest.raises(InputError) as caught:
        read_hubconf(source, file="o/r: hubconf.py")
    assert caught.value.message.startswith(start)
    assert "\n" not in caught.value.message
    assert caught.value.hint


TREE = {
    "hubconf.py": (
        "from lab import small, big as large, gone\nfrom lab.deep.nets import Net\nfrom torch import nn\n"
        "from lab import twice\ndef twice(): 'Mine.'\nalias = large\nfrom loop import around\nfrom broken import bad\n"
    ),
    "lab/__init__.py": "from .nets import *\nfrom . import deep\nfrom .deep import big, twice\n",
    "lab/nets.py": "def small(width=1):\n    'Small.'\n",
    "lab/deep/__init__.py": "from ..sizes import big\nfrom .nets import Net\ndef twice(): 'Theirs.'\n",
    "lab/deep/nets.py": "class Net:\n    'A net.'\n    def __init__(self, depth): ...\n",
    "lab/sizes.py": "def big(*, depth):\n    'Big.'\n",
    "loop.py": "from loop import around\n",
    "broken.py": "def bad(:\n",
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small", ("(width=1)", "Small.")),
        ("large", ("(*, depth)", "Big.")),
        ("alias", ("(*, depth)", "Big.")),
        ("Net", ("(depth)", "A net.")),
        ("twice", ("()", "Mine.")),
        ("gone", None),
        ("nn", None),
        ("around", None),
        ("bad", None),
        ("never", None),
    ],
)
def test_what_is_imported_is_found_where_it_is_defined(name: str, expected: tuple[str, str] | None) -> None:
    found = find_definition(name, lambda path: TREE[path].encode() if path in TREE else None)

    assert (found and (found.name, found.signature, found.doc)) == (expected and (name, *expected))


def test_modules_that_are_imported_by_name_are_no_entry_points() -> None:
    files = {
        "hubconf.py": b"""
from torch import nn, load as read
from torch.nn import Linear
from models import yolo, make, twice, made
from .models import yolo as again
from models.yolo import net
from elsewhere import thing
""",
        "models/__init__.py": b"def make(): ...\nfrom .twice import twice\nmade = make()\n",
        "models/made.py": b"",
        "models/yolo.py": b"def net(): ...\n",
        "models/twice.py": b"def twice(): ...\n",
    }
    found = without_modules(read_hubconf(files["hubconf.py"], file="hubconf.py"), files.get, {"torch.nn"}.__contains__)

    assert [entry.name for entry in found.entrypoints] == ["Linear", "made", "make", "net", "read", "thing", "twice"]


def test_a_search_for_a_definition_comes_to_an_end() -> None:
    reads: list[str] = []

    def read(path: str) -> bytes:
        reads.append(path)
        number = int("".join(filter(str.isdigit, path)) or 0)
        return "".join(f"from part{number + step} import *\n" for step in range(1, 9)).encode()

    assert find_definition("nowhere", read) is None
    assert len(reads) <= 201
