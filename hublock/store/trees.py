"""Source trees in the store: written once, read-only, and checked file by file against their listing."""

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hublock.core.digest import Digest
from hublock.core.names import encode
from hublock.core.tree import EXECUTABLE, FILE, LINK, Entry, Listing, SourceFile, blob_id
from hublock.errors import TreeMismatch, UnsafeArchive
from hublock.store.disk import inherited_mode, share, sync_file, sync_folder, write_beside, writing
from hublock.store.stamps import stamp

MODES = {FILE: 0o444, EXECUTABLE: 0o555}
SHOWN = 5
"""How many differences an error names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTree:
    """A source tree in the store."""

    digest: Digest
    root: Path
    """The folder that holds its files."""
    listing: Listing


def write_tree(folder: Path, files: Iterable[SourceFile]) -> Listing:
    """Write ``files`` into the new folder ``folder/tree`` with their listing and stamps beside, all of it synced.

    Raises:
        StoreError: it cannot be written.
        UnsafeArchive: a path would leave the folder.
    """
    root = folder / "tree"
    with writing(root):
        root.mkdir(parents=True)
        entries, links = [], []
        for file in files:
            entries.append(_entry(file))
            # links last: nothing is ever written through one
            if file.mode == LINK:
                links.append(file)
            else:
                _write_file(root, file)
        for file in links:
            _write_link(root, file)
        listing = Listing.of(entries)
        if not share(folder):
            _close(root)
        (folder / "listing").write_bytes(listing.to_bytes())
        (folder / "listing").chmod(inherited_mode(folder))
        stamps = (stamp((root / entry.path).lstat()) for entry in listing.entries)
        write_beside(folder / "stamp", "".join(stamps))
        _sync(folder)
    return listing


def check_tree(folder: Path, digest: Digest, *, deep: bool) -> tuple[StoredTree, str]:
    """Compare the tree in ``folder`` with its listing, and the listing with ``digest``; return it and its new stamps.

    Files that look as they did when they were last hashed are hashed again only if ``deep``.

    Raises:
        TreeMismatch: something is missing, extra or changed.
    """
    listing = read_listing(folder, digest)
    if listing.digest != digest:
        raise TreeMismatch(f"the listing of {digest} in {folder} was changed", hint="hublock sync")
    root = folder / "tree"
    known = [] if deep else _known_stamps(folder)
    found, folders = _scan(root)
    if deep:
        right = (entry for entry in listing.entries if entry.path in found and _looks_right(entry, found[entry.path]))
        _read_ahead(root, (entry.path for entry in right if entry.mode != LINK))
    wrong = sorted(f"extra {path}" for path in (found.keys() - listing.by_path.keys()) | (folders - _folders(listing)))
    found.update(_twins(root, listing.by_path.keys() - found.keys()))
    for number, entry in enumerate(listing.entries):
        facts = found.get(entry.path)
        seen = known[number] if number < len(known) else None
        if facts is None:
            wrong.append(f"missing {entry.path}")
        elif not _looks_right(entry, facts) or not (seen == stamp(facts) or _holds(root, entry)):
            wrong.append(f"changed {entry.path}")
    if wrong:
        raise TreeMismatch(
            f"the tree {digest} in {folder} is not what was locked: {_shown(wrong)}", hint="hublock sync"
        )
    # how the files looked before they were hashed: what changes meanwhile is hashed again
    stamps = "".join(stamp(found[entry.path]) for entry in listing.entries)
    return StoredTree(digest=digest, root=root, listing=listing), stamps


def read_listing(folder: Path, digest: Digest) -> Listing:
    """Read the listing of the tree in ``folder`` without checking it.

    Raises:
        TreeMismatch: it cannot be read.
    """
    try:
        listing = Listing.parse((folder / "listing").read_bytes())
        # it is worked out from ids and paths that may be none
        _ = listing.digest
    except (OSError, ValueError, RecursionError) as error:
        raise TreeMismatch(
            f"the listing of {digest} in {folder} cannot be read: {error}", hint="hublock sync"
        ) from None
    return listing


def _entry(file: SourceFile) -> Entry:
    parts = file.path.split("/")
    unsafe = any(part in ("", ".", "..") or "\0" in part for part in parts) or Path(file.path).is_absolute()
    if unsafe or (os.name != "posix" and any("\\" in part or ":" in part for part in parts)):
        raise UnsafeArchive(f"the path {file.path!r} cannot be stored")
    if file.mode not in (FILE, EXECUTABLE, LINK):
        raise UnsafeArchive(f"{file.path!r} has the unknown mode {file.mode}")
    return Entry(path=file.path, mode=file.mode, blob=blob_id(file.data), size=len(file.data))


def _write_file(root: Path, file: SourceFile) -> None:
    path, flags = root / file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, flags, 0o600)
    except FileExistsError:
        if path.read_bytes() != file.data:
            raise
        # its twin, on a disk that takes both names for one: see check_files
        return
    with os.fdopen(handle, "wb") as stream:
        stream.write(file.data)
    path.chmod(MODES[file.mode])


def _write_link(root: Path, file: SourceFile) -> None:
    path = root / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.fsdecode(file.data)
    try:
        os.symlink(target, path)  # noqa: PTH211 - a link's bytes are not always a path to pathlib
    except FileExistsError:
        if not path.is_symlink() or os.readlink(path) != target:
            raise


def _close(root: Path) -> None:
    """Let nobody write into the folders of a tree; those of a shared store are its group's, who may remove them."""
    if os.name == "posix":
        for here, _, _ in os.walk(root, topdown=False):
            Path(here).chmod(0o555)


def _sync(folder: Path) -> None:
    """Sync every file and folder below ``folder``; several at once, as each waits for the disk."""
    files, folders = [], [folder]
    for here, below, names in os.walk(folder):
        files += [Path(here, name) for name in names if not Path(here, name).is_symlink()]
        folders += [Path(here, name) for name in below if not Path(here, name).is_symlink()]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sync_file, files))
        list(pool.map(sync_folder, reversed(folders)))


def _scan(root: Path) -> tuple[dict[str, os.stat_result], set[str]]:
    """Return what stands below ``root``: facts of files and links by path, and the folders."""
    files: dict[str, os.stat_result] = {}
    folders: set[str] = set()
    waiting = [("", root)]
    while waiting:
        prefix, here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(prefix + entry.name)
                        waiting.append((f"{prefix}{entry.name}/", Path(entry.path)))
                    else:
                        files[prefix + entry.name] = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TreeMismatch(f"{here} cannot be read: {error.strerror}", hint="hublock sync") from None
    return files, folders


def _twins(root: Path, paths: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Return the facts of those of ``paths`` that a disk serves without showing them: see ``check_files``."""
    for path in paths:
        with suppress(OSError):
            facts = (root / path).lstat()
            if not stat.S_ISDIR(facts.st_mode):
                yield path, facts


def _read_ahead(root: Path, paths: Iterable[str]) -> None:
    """Let the system fetch files side by side (posix_fadvise(2)); read in turn, each would wait for the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with suppress(OSError):
            handle = os.open(os.path.join(root, path), os.O_RDONLY)  # noqa: PTH118 - as in _holds
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)


def _folders(listing: Listing) -> set[str]:
    found = set()
    for entry in listing.entries:
        folder = entry.path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _looks_right(entry: Entry, facts: os.stat_result) -> bool:
    if entry.mode == LINK:
        return stat.S_ISLNK(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size != entry.size:
        return False
    return os.name != "posix" or bool(facts.st_mode & stat.S_IXUSR) == (entry.mode == EXECUTABLE)


def _holds(root: Path, entry: Entry) -> bool:
    path = os.path.join(root, entry.path)  # noqa: PTH118 - pathlib would take most of the time
    try:
        if entry.mode == LINK:
            return blob_id(os.fsencode(os.readlink(path))) == entry.blob
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return blob_id(file.read()) == entry.blob
    except OSError:
        return False


def _known_stamps(folder: Path) -> list[str]:
    try:
        return (folder / "stamp").read_text(encoding="ascii").splitlines(keepends=True)
    except (OSError, ValueError):
        return []


def _shown(wrong: list[str]) -> str:
    """Name the first few differences, so that bytes no terminal shows do no harm."""
    shown = [encode(text).decode("ascii", "backslashreplace") for text in wrong[:SHOWN]]
    more = len(wrong) - SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
