"""Carry what a lock names to a machine without a network: the store's content into one file, and out of it."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from shlex import quote
from typing import BinaryIO

from hublock.actions.context import Context
from hublock.core.digest import Digest
from hublock.core.inventory import LockedFile, locked_content
from hublock.core.lockfile import Lock, Repo
from hublock.core.names import MAX_FILE, encode
from hublock.core.tree import LINK, Entry, Listing, SourceFile, blob_id, check_files
from hublock.errors import (
    DigestMismatch,
    InputError,
    IntegrityError,
    OfflineError,
    StoreError,
    TreeMismatch,
    UnsafeArchive,
)
from hublock.store import bundle
from hublock.store.disk import Writer, unreadable, writing
from hublock.store.incoming import replacing
from hublock.store.store import StoredTree

CHUNK = 1 << 20
MAX_LISTING = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundled:
    """What went into a bundle, or came out of it."""

    trees: int
    files: int
    size: int
    """Bytes of the trees and files."""


def write_bundle(lock: Lock, context: Context, path: Path) -> Bundled:
    """Write everything that ``lock`` names from the store to the new file ``path``, hashing it once more.

    The same lock gives the same bytes everywhere. ``path`` is replaced in one step, or stays as it was.

    Raises:
        InputError: there is another file at ``path``, or no folder for it.
        OfflineError: something is not in the store; all of it is named.
        IntegrityError: something in the store is not what the lock says.
        StoreError: ``path`` cannot be written, or the store not be read.
    """
    if path.exists() and not (path.is_file() and bundle.may_replace(path)):
        raise InputError(f"{path} is no bundle, so it is not replaced by one", hint="hublock bundle ANOTHER.tar")
    # a link shall still lead there
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", hint=f"mkdir -p {quote(str(path.parent))}")
    trees, files = _stored_trees(lock, context), _named_files(lock)
    missing = [item.url for item in files if context.store.blob(item.digest) is None]
    if missing or None in trees.values():
        absent = [f"the tree of {repo.id}" for repo in lock.repos if trees[repo.digest] is None]
        raise _absent(*absent, *missing)
    try:
        with replacing(path) as file:
            _add(file, bundle.VERSION_NAME, len(bundle.VERSION), [bundle.VERSION])
            size = _add_trees(file, [tree for tree in trees.values() if tree])
            size += sum(_add_file(file, item, context) for item in files)
            file.write(bundle.END)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}", hint="hublock bundle ELSEWHERE.tar") from error
    return Bundled(trees=len(trees), files=len(files), size=size)


def read_bundle(lock: Lock, context: Context, path: Path) -> Bundled:
    """Take what ``lock`` names and the store lacks from the bundle at ``path``; what else it holds is passed over.

    Raises:
        InputError: there is nothing at ``path``.
        UnsafeArchive: it is no bundle, or not as hublock writes one.
        IntegrityError: its bytes are not those that the lock names.
        StoreError: the store cannot be written, or ``path`` not be read.
    """
    try:
        if not path.is_file():
            raise InputError(f"there is no bundle {path}", hint="hublock bundle OUT.tar makes one")
        file = path.open("rb")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", hint="hublock bundle OUT.tar makes one") from error
    trees = files = size = 0
    with file:
        source = bundle.Bundle(path, file)
        for repo in {repo.digest: repo for repo in lock.repos}.values():
            if bundle.tree_name(repo.digest) in source and not _has_tree(context, repo):
                size += _take_tree(source, repo, context, path)
                trees += 1
        for item in _named_files(lock):
            if bundle.blob_name(item.digest) in source and not _has_file(context, item):
                _take_file(source, item, context, path)
                size += item.size
                files += 1
    return Bundled(trees=trees, files=files, size=size)


def _stored_trees(lock: Lock, context: Context) -> dict[Digest, StoredTree | None]:
    return {digest: context.store.tree(digest) for digest in sorted({repo.digest for repo in lock.repos})}


def _absent(*names: str) -> OfflineError:
    return OfflineError(f"not in the store: {', '.join(names)}", hint="hublock sync")


def _named_files(lock: Lock) -> list[LockedFile]:
    return sorted(locked_content(lock), key=lambda file: file.digest)


def _add(file: BinaryIO, name: str, size: int, pieces: Iterable[bytes]) -> None:
    file.write(bundle.header(name, size))
    came = 0
    for piece in pieces:
        came += len(piece)
        file.write(piece)
    if came != size:
        raise DigestMismatch(f"{name} has {came} bytes in the store, not {size}", hint="hublock sync")
    file.write(bundle.padding(size))


def _add_trees(file: BinaryIO, trees: list[StoredTree]) -> int:
    """Write the listings, then every file of theirs once; return how large the trees are."""
    for tree in trees:
        if tree.listing.digest != tree.digest:
            raise TreeMismatch(f"the listing of {tree.digest} in the store was changed", hint="hublock sync")
        data = tree.listing.to_bytes()
        _add(file, bundle.tree_name(tree.digest), len(data), [data])
    places = {entry.blob: (tree, entry) for tree in trees for entry in tree.listing.entries}
    for blob, (tree, entry) in sorted(places.items(), key=itemgetter(0)):
        data = _tree_file(tree, entry)
        if blob_id(data) != blob:
            raise TreeMismatch(f"{tree.root / entry.path} was changed", hint="hublock sync")
        _add(file, bundle.object_name(blob), len(data), [data])
    return sum(tree.listing.size for tree in trees)


def _tree_file(tree: StoredTree, entry: Entry) -> bytes:
    path = tree.root / entry.path
    try:
        return encode(os.readlink(path)) if entry.mode == LINK else path.read_bytes()
    except OSError as error:
        if not tree.root.exists():
            # pruned meanwhile
            raise _absent(f"the tree {tree.digest}") from None
        raise TreeMismatch(f"{path} cannot be read: {error.strerror}", hint="hublock sync") from error


def _add_file(file: BinaryIO, item: LockedFile, context: Context) -> int:
    path = context.store.layout.blob(item.digest)
    pieces = _hashed(_pieces(path, item), item, str(path), hint="hublock sync")
    _add(file, bundle.blob_name(item.digest), item.size, pieces)
    return item.size


def _pieces(path: Path, item: LockedFile) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as stored:
            while piece := stored.read(CHUNK):
                yield piece
    except FileNotFoundError:
        # pruned meanwhile
        raise _absent(item.url) from None
    except OSError as error:
        raise unreadable(path, error) from error


def _hashed(pieces: Iterable[bytes], item: LockedFile, place: str, *, hint: str) -> Iterator[bytes]:
    """Hand on ``pieces``, and refuse at their end if they were not the bytes of ``item``."""
    engine = hashlib.sha256()
    for piece in pieces:
        engine.update(piece)
        yield piece
    actual = Digest("sha256", engine.hexdigest())
    if actual != item.digest:
        raise DigestMismatch(f"{place} holds bytes of {actual} for {item.url}, not of {item.digest}", hint=hint)


def _has_tree(context: Context, repo: Repo) -> bool:
    with suppress(IntegrityError, OfflineError):
        context.store.check_tree(repo.digest, deep=False)
        return True
    return False


def _has_file(context: Context, item: LockedFile) -> bool:
    with suppress(IntegrityError, OfflineError):
        context.store.check_blob(item.digest, size=item.size, deep=False)
        return True
    return False


def _take_tree(source: bundle.Bundle, repo: Repo, context: Context, path: Path) -> int:
    name = bundle.tree_name(repo.digest)
    try:
        listing = Listing.parse(source.read(name, MAX_LISTING))
        wrong = listing.digest != repo.digest
    except (ValueError, RecursionError):
        wrong = True
    if wrong:
        raise TreeMismatch(f"{path} holds another listing than that of {repo.id} ({repo.digest})", hint=_AGAIN)
    files = [
        SourceFile(path=entry.path, mode=entry.mode, data=_object(source, entry.blob, entry.size, path))
        for entry in listing.entries
    ]
    check_files(files)
    context.store.add_tree(files, expected=repo.digest)
    return listing.size


def _object(source: bundle.Bundle, blob: str, size: int, path: Path) -> bytes:
    name = bundle.object_name(blob)
    if name not in source:
        raise UnsafeArchive(f"{path} lacks {name}, which a tree of it names", hint=_AGAIN)
    if source.size(name) != size or blob_id(data := source.read(name, MAX_FILE)) != blob:
        raise TreeMismatch(f"{path} holds other bytes than its name {name} says", hint=_AGAIN)
    return data


def _take_file(source: bundle.Bundle, item: LockedFile, context: Context, path: Path) -> None:
    name = bundle.blob_name(item.digest)
    if source.size(name) != item.size:
        raise DigestMismatch(
            f"{path} holds {source.size(name)} bytes for {item.url}, not the {item.size} that are locked", hint=_AGAIN
        )
    with context.store.incoming(str(item.digest)) as incoming:
        if _has_file(context, item):
            return
        incoming.clear()
        writer = Writer(incoming.open())
        with writing(incoming.path):
            for piece in _hashed(source.pieces(name), item, str(path), hint=_AGAIN):
                writer.write(piece)
        if context.store.blob(item.digest) is not None:
            context.store.discard(item.digest)
        incoming.publish(item.digest)


_AGAIN = "make it again with `hublock bundle` where the store is intact"
