"""From git objects, each known by an id we computed, to the files of one commit (gitformat-pack, git-cat-file)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hublock.core.lockfile import Submodule
from hublock.core.names import check_amount, check_path, decode
from hublock.core.tree import EXECUTABLE, FILE, LINK, SUBMODULE, SourceFile, check_files
from hublock.errors import TreeMismatch, UnsafeArchive

FOLDER = "40000"
_MODES = {FILE: FILE, "100664": FILE, EXECUTABLE: EXECUTABLE, LINK: LINK}
"""What a tree may say of a file, and what it means; 100664 is of git before 2005."""
_COMMIT = re.compile(rb"tree ([0-9a-f]{40,64})\n((?:parent [0-9a-f]{40,64}\n)*)author ")
_COMMITTED = re.compile(rb"^committer [^\n]* (-?\d{1,12}) [+-]\d{1,5}$", re.MULTILINE)
UNKNOWN = "?"
"""The URL of a submodule that ``.gitmodules`` does not tell."""

Objects = Mapping[str, tuple[str, bytes]]
"""Id -> kind and data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """The head of a commit object."""

    tree: str
    parents: tuple[str, ...]
    committed: datetime
    """The epoch if the commit has no date that can be."""


def algorithm_of(identity: str) -> str:
    """Return the object format that an id of 40 or 64 hex digits is of: ``sha1`` or ``sha256``."""
    return "sha1" if len(identity) == 40 else "sha256"


def parse_commit(identity: str, data: bytes) -> Commit:
    """Read a commit object.

    Raises:
        TreeMismatch: it is not one that git would write.
    """
    match = _COMMIT.match(data)
    if match is None:
        raise TreeMismatch(f"commit {identity} is malformed")
    when = _COMMITTED.search(data)
    try:
        committed = datetime.fromtimestamp(int(when[1]) if when else 0, UTC)
    except (ValueError, OverflowError, OSError):
        committed = datetime.fromtimestamp(0, UTC)
    parents = tuple(line[7:].decode() for line in match[2].splitlines())
    return Commit(tree=match[1].decode(), parents=parents, committed=committed)


def find(objects: Objects, identity: str, kind: str, name: str) -> bytes:
    """Return the data of the object ``identity``; ``name`` is what it is to the reader.

    Raises:
        TreeMismatch: it is missing, or of another kind.
    """
    found = objects.get(identity)
    if found is None:
        raise TreeMismatch(f"the host did not send the {kind} {identity} ({name}), or sent other bytes in its place")
    if found[0] != kind:
        raise TreeMismatch(f"object {identity} ({name}) is a {found[0]}, not a {kind}")
    return found[1]


def read_tree(objects: Objects, root: str) -> tuple[list[SourceFile], tuple[Submodule, ...]]:
    """Return the files and submodules of the tree ``root``: its closure is complete, its names are safe.

    Raises:
        TreeMismatch: an object is missing, or is not what it should be.
        UnsafeArchive: a name, link or amount is not allowed.
    """
    files: list[SourceFile] = []
    gitlinks: dict[str, str] = {}
    total = 0
    for seen, (path, mode, identity) in enumerate(_walk(objects, root, ""), 1):
        if mode == SUBMODULE:
            gitlinks[path] = identity
        elif mode != FOLDER:
            data = find(objects, identity, "blob", path)
            total += len(data)
            files.append(SourceFile(path=path, mode=_MODES[mode], data=data))
        # the same object may be named any number of times, so the pack's own limits do not hold here
        check_amount(seen, 0, total)
    check_files(files)
    modules = next((file.data for file in files if file.path == ".gitmodules" and file.mode == FILE), b"")
    urls = _submodule_urls(modules)
    return files, tuple(
        Submodule(path=path, url=urls.get(path, UNKNOWN), commit=commit) for path, commit in sorted(gitlinks.items())
    )


def _walk(objects: Objects, tree: str, folder: str) -> Iterator[tuple[str, str, str]]:
    """Give the path, mode and id of everything below ``folder``."""
    for mode, name, identity in _entries(tree, find(objects, tree, "tree", folder or "the root folder")):
        path = f"{folder}{decode(name)}"
        if b"/" in name:
            raise UnsafeArchive(f"the tree holds {path!r}, whose name has a slash")
        check_path(path)
        if mode != FOLDER and mode != SUBMODULE and mode not in _MODES:
            raise UnsafeArchive(f"the tree holds {path!r}, whose mode is {mode!r}")
        yield path, mode, identity
        if mode == FOLDER:
            yield from _walk(objects, identity, f"{path}/")


def _entries(tree: str, data: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Read a tree object: ``MODE SP NAME NUL`` and a raw id, again and again."""
    size, position = len(tree) // 2, 0
    while position < len(data):
        head = data.find(b"\0", position)
        mode, space, name = data[position:head].partition(b" ")
        end = head + 1 + size
        if head < 0 or not space or end > len(data):
            raise TreeMismatch(f"tree {tree} is malformed")
        # some old tools have written 040000
        yield mode.decode("latin-1").lstrip("0"), name, data[head + 1 : end].hex()
        position = end


def _submodule_urls(modules: bytes) -> dict[str, str]:
    """Return path -> URL of a ``.gitmodules`` file, without passwords; what cannot be read is left out.

    As in git, nothing is included: what a stranger has written must not name files of this machine.
    """
    from io import BytesIO

    from dulwich.config import ConfigFile

    try:
        config = ConfigFile.from_file(BytesIO(modules), expand_includes=False)
        return {
            decode(bytes(config.get(section, b"path"))): _public(decode(bytes(config.get(section, b"url"))))
            for section in config.sections()
            if section[0] == b"submodule" and config.has_section(section)
        }
    except (ValueError, KeyError):
        return {}


def _public(url: str) -> str:
    """Return ``url`` as a lock may hold it: one word, no password, and a user name only for ssh."""
    if re.search(r"[\x00-\x20\x7f]", url) or not url:
        return UNKNOWN
    url = re.sub(r"^(https?://)[^/?#]*@", r"\1", url)
    return re.sub(r"^([a-z+]+://[^/?#:@]*):[^/?#]*@", r"\1@", url)
