"""What a repository promises, read as text."""

import pytest

from hublock.core.contract import Contract, Signature, compare, read_contract
from hublock.errors import InputError


def contract(source: str, **others: str) -> Contract:
    files = {"hubconf.py": source, **{f"{name}.py": text for name, text in others.items()}}
    return read_contract({path: text.encode() for path, text in files.items()}, name="a/b")


def test_tells_what_came_what_went_and_what_is_called_otherwise() -> None:
    old = contract("dependencies = ['torch', 'scipy']\ndef a(x): pass\ndef b(): pass\ndef same(k=1): pass\n")
    new = contract("dependencies = ['torch', 'numpy']\ndef a(x, y=2): pass\ndef c(): pass\ndef same(k=1): return 1\n")

    change = compare(old, new)

    assert (change.added, change.removed) == (("c",), ("b",))
    assert change.signatures == (Signature(name="a", old="(x)", new="(x, y=2)"),)
    assert (change.dependencies_added, change.dependencies_removed) == (("numpy",), ("scipy",))
    assert not change.estimated
    assert not change.empty


def test_urls_are_those_of_hubconf_and_of_what_it_imports() -> None:
    old = contract(
        "import net\nurl = 'https://e.org/a.pth'\n",
        net="URLS = {'x': 'http://e.org/x.pt?download=1'}\n",
        unused="url = 'https://e.org/old.pth'\n",
    )
    new = contract("import net\nurl = 'https://e.org/a.pth'\n", net="def y(n): return f'https://e.org/{n}.tar.gz'\n")

    change = compare(old, new)

    assert (change.urls_added, change.urls_removed) == (
        ("https://e.org/{…}.tar.gz",),
        ("http://e.org/x.pt?download=1",),
    )


def test_the_same_source_in_other_words_is_no_change() -> None:
    assert compare(contract("def a(x = 1): pass\n"), contract("# new\ndef a(x=1):\n    return 2\n")).empty


def test_private_names_are_no_part_of_it() -> None:
    assert compare(contract("def a(): pass\ndef _b(): pass\n"), contract("def a(): pass\n")).empty


def test_names_made_at_run_time_make_it_an_estimate() -> None:
    made = contract("for name in 'ab':\n    globals()[name] = print\n")

    assert made.estimated
    assert compare(made, contract("")).estimated


def test_refuses_a_tree_without_a_readable_hubconf() -> None:
    with pytest.raises(InputError, match=r"a/b has no hubconf\.py"):
        read_contract({"net.py": b""}, name="a/b")
    with pytest.raises(InputError, match=r"a/b: hubconf\.py:1: syntax error"):
        contract("def (")
