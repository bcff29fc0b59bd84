r"""Which names, links and sizes a source tree may hold before any of it touches a disk.

A tree that one machine can hold and another cannot is not reproducible, and one that a file system spells otherwise
can be used to overwrite: so what two files cannot share anywhere is refused everywhere. Only names that Windows alone
cannot hold (``aux.py``, ``a:b``, a trailing dot) are refused on Windows alone, because real repositories have them.
"""

import os
import re
import unicodedata
from collections.abc import Mapping

from hublock.errors import UnsafeArchive

MAX_FILES = 100_000
"""Files and folders of one tree; the largest public hub repository has some 5,500."""
MAX_FILE = 512 << 20
"""Bytes of one file; GitHub refuses files above 100 MiB."""
MAX_TREE = 2 << 30
"""Bytes of all files together, which are in memory while they are checked; the largest hub repository has 129 MB."""
MAX_PATH, MAX_NAME = 4096, 255
"""Bytes of a path (Linux's PATH_MAX) and of one name in it (the limit of every common file system)."""
MAX_DEPTH = 100
"""Names in a path: folders are walked by recursion, here and in most programs."""
MAX_LINKS = 40
"""Links followed to resolve one link, as Linux does; more is a loop."""
WINDOWS = os.name == "nt"

_IGNORED = dict.fromkeys(
    [0x200C, 0x200D, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)  # what HFS+ ignores when it compares names (git, utf8.c: next_hfs_char)
_GIT = re.compile(r"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[1-9¹²³]|lpt[1-9¹²³])[ ]*(?:\..*)?", re.IGNORECASE)


def check_path(path: str, *, windows: bool = WINDOWS) -> None:
    """Refuse a path that could leave the tree, hide in it, or be spelled otherwise by a file system.

    The disguises of ``.git`` are those of git's own verify_path (read-cache.c, CVE-2014-9390, CVE-2019-1353).

    Raises:
        UnsafeArchive: the path is not allowed; the message says why.
    """
    reason = _fault(path, windows=windows)
    if reason:
        raise UnsafeArchive(f"the tree holds {path!r}, which {reason}")


def _fault(path: str, *, windows: bool) -> str | None:
    if not path:
        return "is no name"
    if len(encode(path)) > MAX_PATH:
        return f"is longer than {MAX_PATH} bytes"
    if path.startswith("/"):
        return "is absolute"
    if "\\" in path:
        return "holds a backslash"
    if any(unicodedata.category(character) == "Cc" for character in path):
        return "holds a control character"
    if path.count("/") >= MAX_DEPTH:
        return f"lies more than {MAX_DEPTH} folders deep"
    return next(filter(None, (_name_fault(name, windows=windows) for name in path.split("/"))), None)


def _name_fault(name: str, *, windows: bool) -> str | None:
    if name in ("", ".", ".."):
        return "has an empty or dotted part"
    if len(encode(name)) > MAX_NAME:
        return f"has a part longer than {MAX_NAME} bytes"
    if _GIT.fullmatch(name.translate(_IGNORED)):
        return "is a disguise of .git"
    if windows and (_DEVICE.fullmatch(name) or name[-1] in " ." or re.search(r'[<>:"|?*]', name)):
        return "Windows cannot hold"
    return None


def check_amount(files: int, size: int, total: int) -> None:
    """Refuse a tree with too many files and folders, too large a file, or too much of it all.

    Raises:
        UnsafeArchive: one of the limits is exceeded.
    """
    if files > MAX_FILES:
        raise UnsafeArchive(f"the tree holds more than {MAX_FILES} files and folders")
    if size > MAX_FILE:
        raise UnsafeArchive(f"the tree holds a file of {size} bytes, more than {MAX_FILE}")
    if total > MAX_TREE:
        raise UnsafeArchive(f"the tree holds more than {MAX_TREE} bytes")


def fold(path: str) -> str:
    """Return what two paths share when some file system takes them for one: case, composition, ignored characters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).translate(_IGNORED).casefold())


def check_link(path: str, links: Mapping[str, str]) -> None:
    """Refuse a link whose target is no path inside the tree; ``links`` are all of the tree (path -> target).

    Raises:
        UnsafeArchive: its target is no relative path, or leads out of the tree or in a circle.
    """
    _check_target(path, links[path])
    follow(path, links)


def follow(path: str, links: Mapping[str, str]) -> str:
    """Return where ``path`` leads through the ``links`` (path -> relative target) of its tree, as a kernel goes.

    Raises:
        UnsafeArchive: out of the tree, or in a circle.
    """
    here: list[str] = []
    ahead = path.split("/")[::-1]
    followed = 0
    while ahead:
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise UnsafeArchive(f"the link {path!r} leads out of the tree, to {links.get(path, path)[:80]!r}")
            here.pop()
            continue
        here.append(part)
        onward = links.get("/".join(here))
        if onward is not None:
            followed += 1
            if followed > MAX_LINKS:
                raise UnsafeArchive(f"the link {path!r} leads in a circle")
            here.pop()
            ahead += onward.split("/")[::-1]
    return "/".join(here)


def _check_target(path: str, target: str) -> None:
    faulty = not target or len(encode(target)) > MAX_PATH or "\\" in target or "\0" in target
    if faulty or target.startswith("/") or re.match(r"[A-Za-z]:", target):
        raise UnsafeArchive(f"the link {path!r} leads to {target[:80]!r}, which is not a path inside the tree")


def encode(path: str) -> bytes:
    """Return the bytes git stores for ``path``."""
    return path.encode("utf-8", "surrogateescape")


def decode(path: bytes) -> str:
    """Return the text of a path that git stores as ``path``."""
    return path.decode("utf-8", "surrogateescape")
