r"""The identity of a source tree: git's own tree id, in both of git's object formats.

An id is what git computes (git-hash-object, hash-function-transition): a blob is ``blob LEN\0`` + bytes, a tree is
``tree LEN\0`` + ``MODE NAME\0`` + raw id of each entry in git's order. In the SHA-256 form submodules and empty
folders are left out and modes are 100644, 100755 or 120000: it speaks of content alone.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from hublock.core.cached import cached
from hublock.core.digest import Digest
from hublock.core.names import check_amount, check_link, check_path, decode, encode, fold
from hublock.errors import UnsafeArchive

FILE, EXECUTABLE, LINK, SUBMODULE = "100644", "100755", "120000", "160000"
_FOLDER = "40000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file or symbolic link of a tree."""

    path: str
    """Relative to the tree, parted by ``/``; bytes that are not UTF-8 travel as surrogate escapes."""
    mode: str
    """``100644``, ``100755``, or ``120000`` (a link: its bytes are its target)."""
    blob: str
    """The id of its bytes as a git blob in SHA-256 form: 64 hex digits."""
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file or symbolic link with its bytes, on its way into the store."""

    path: str
    mode: str
    data: bytes

    def is_twin_of(self, other: Self) -> bool:
        """Tell whether a disk that takes the two names for one serves both with either."""
        return self.path != other.path and (self.mode, self.data) == (other.mode, other.data)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Every file of a tree; from it alone the tree's digest can be computed."""

    entries: tuple[Entry, ...]
    """Sorted by the bytes of the path."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """Make a listing of ``entries`` in any order."""
        return cls(entries=tuple(sorted(entries, key=lambda entry: encode(entry.path))))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ValueError: ``data`` is not a listing.
        """
        entries = []
        for line in data.split(b"\0")[:-1]:
            facts, _, path = line.partition(b"\t")
            mode, blob, size = facts.decode("ascii").split(" ")
            entries.append(Entry(path=decode(path), mode=mode, blob=blob, size=int(size)))
        if data and not data.endswith(b"\0"):
            raise ValueError("the listing is cut short")
        return cls.of(entries)

    def to_bytes(self) -> bytes:
        """Write one ``MODE SP BLOB SP SIZE TAB PATH NUL`` per file, as ``git ls-tree -z`` does."""
        return b"".join(
            f"{entry.mode} {entry.blob} {entry.size}\t".encode("ascii") + encode(entry.path) + b"\0"
            for entry in self.entries
        )

    @cached
    def digest(self) -> Digest:
        """The tree's id in SHA-256 form: ``git-sha256:…``."""
        return Digest("git-sha256", tree_id(((e.path, e.mode, e.blob) for e in self.entries), "sha256"))

    @cached
    def by_path(self) -> dict[str, Entry]:
        """The entries by their path."""
        return {entry.path: entry for entry in self.entries}

    @property
    def top_names(self) -> frozenset[str]:
        """The names that a Python with this tree on its path could import from it."""
        return frozenset(entry.path.split("/")[0].removesuffix(".py") for entry in self.entries)

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(entry.size for entry in self.entries)


def blob_id(data: bytes, algorithm: str = "sha256") -> str:
    """Return the hex id of a blob that holds ``data``; ``algorithm`` is sha1 or sha256."""
    return hashlib.new(algorithm, b"blob %d\0" % len(data) + data).hexdigest()


def tree_id(files: Iterable[tuple[str, str, str]], algorithm: str) -> str:
    """Return the hex id of the tree that holds ``files``: ``(path, mode, hex id)``, in any order.

    Raises:
        ValueError: one of them lies below another.
    """
    root: _Folder = {}
    for path, mode, identity in files:
        *folders, name = path.split("/")
        here = root
        for folder in folders:
            below = here.setdefault(folder, {})
            if not isinstance(below, dict):
                raise ValueError(f"{path} lies below a file")
            here = below
        here[name] = (mode, identity)
    return _folder_id(root, algorithm)


_Folder = dict[str, "tuple[str, str] | _Folder"]


def _folder_id(folder: _Folder, algorithm: str) -> str:
    rows = []
    for name, node in folder.items():
        mode, identity = node if isinstance(node, tuple) else (_FOLDER, _folder_id(node, algorithm))
        raw = encode(name)
        # git sorts a folder as if its name ended in a slash
        rows.append((raw + b"/" if mode == _FOLDER else raw, mode, raw, bytes.fromhex(identity)))
    body = b"".join(b"%s %s\0%s" % (mode.encode(), raw, identity) for _, mode, raw, identity in sorted(rows))
    return hashlib.new(algorithm, b"tree %d\0" % len(body) + body).hexdigest()


def digest_of(files: Iterable[SourceFile]) -> Digest:
    """Return the digest of the tree that holds ``files``: ``git-sha256:…``."""
    return Digest("git-sha256", tree_id(((file.path, file.mode, blob_id(file.data)) for file in files), "sha256"))


def check_files(files: Iterable[SourceFile]) -> None:
    """Refuse a set of files that cannot all be written, apart and inside one folder, on every machine.

    Raises:
        UnsafeArchive: a name is not allowed, two are one to some file system, a file lies below another, a link leads
            out of the tree, or there is too much.
    """
    links: dict[str, str] = {}
    spelled: dict[str, SourceFile] = {}
    folders = {""}
    total = 0
    for number, file in enumerate(files):
        check_path(file.path)
        _claim_folders(file.path, spelled, folders)
        _claim(file, spelled)
        total += len(file.data)
        check_amount(number + len(folders), len(file.data), total)
        if file.mode == LINK:
            links[file.path] = decode(file.data)
    for path in links:
        check_link(path, links)


def _claim_folders(path: str, spelled: dict[str, SourceFile], folders: set[str]) -> None:
    """Note the folders above ``path`` that are new."""
    folder = path.rpartition("/")[0]
    while folder not in folders:
        _claim(SourceFile(path=folder, mode=_FOLDER, data=b""), spelled)
        folders.add(folder)
        folder = folder.rpartition("/")[0]


def _claim(file: SourceFile, spelled: dict[str, SourceFile]) -> None:
    """Note a file or folder, which no other may share its folded spelling with, but for files that are alike."""
    taken = spelled.setdefault(fold(file.path), file)
    if taken is file or (file.mode != _FOLDER and file.is_twin_of(taken)):
        return
    if taken.path == file.path:
        raise UnsafeArchive(f"the tree holds {file.path!r} twice, or as a file and as a folder")
    raise UnsafeArchive(
        f"the tree holds {file.path!r} and {taken.path!r}, which many disks take for one",
        hint="ask its authors to rename one of them",
    )
