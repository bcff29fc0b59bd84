"""URLs read from code."""

import pytest

from hublock.core.hints import find_urls
from hublock.core.hubconf import LARGEST

SOURCES = {
    "hubconf.py": b'''"""See https://example.org/docs/page.pth for more."""
from models.net import build
import broken
BASE = "https://example.org/releases"
URLS = {"small": "https://example.org/small.pth", "home": "https://example.org/index.html"}
def entry(name):
    """https://example.org/docstring.pth"""
    return load(f"https://example.org/{name}-v1.pth"), f"{BASE}/big.pth"
''',
    "models/__init__.py": b"from . import other",
    "models/net.py": b'from .inner.deep import x\nweights = "https://example.org/net.pt?raw=true"\n',
    "models/other.py": b'"https://example.org/doc.bin"\nurl = "https://example.org/other.bin"\n',
    "models/inner/deep.py": b'url = "http://example.org/deep.ckpt"',
    "broken.py": b"def (",
    "unused.py": b'url = "https://example.org/unused.pth"',
}


def test_urls_of_everything_hubconf_imports_are_found_with_holes_for_what_is_computed() -> None:
    assert find_urls(SOURCES.get) == (
        "http://example.org/deep.ckpt",
        "https://example.org/net.pt?raw=true",
        "https://example.org/other.bin",
        "https://example.org/releases/big.pth",
        "https://example.org/small.pth",
        "https://example.org/{…}-v1.pth",
    )


def test_only_what_hubconf_leads_to_is_read() -> None:
    """Beside it may lie a virtual environment of a thousand packages."""
    asked = []

    def read(path: str) -> bytes | None:
        asked.append(path)
        return SOURCES.get(path)

    find_urls(read)
    assert "unused.py" not in asked
    assert len(asked) == len(set(asked))


def test_a_tree_without_hubconf_has_none() -> None:
    assert find_urls({"other.py": b'url = "https://example.org/x.pth"'}.get) == ()


@pytest.mark.parametrize(
    ("source", "urls"),
    [
        ("x = 'https://e.org/A.PTH'", ("https://e.org/A.PTH",)),
        ("x = 'https://[e.org/a.pth'", ("https://[e.org/a.pth",)),
        ("x = 'https://e.org/page.html'", ()),
        ("x = 'https://e.org/releases/download/v1.0'", ()),
        ("B = 'https://e.org/v1.0'\ndef f(n): return f'{B}/{n}.pth', f'{n}{B}'", ("https://e.org/v1.0/{…}.pth",)),
        ("x = 'see https://e.org/a.pth'", ()),
        ("# https://e.org/a.pth", ()),
        ("def (https://e.org/a.pth", ()),
        ("url = 'https://e.org/a.pth'\n" + "#" * LARGEST, ()),
    ],
)
def test_only_whole_strings_that_name_a_file_count(source: str, urls: tuple[str, ...]) -> None:
    assert find_urls({"hubconf.py": source.encode()}.get) == urls
