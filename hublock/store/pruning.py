"""What a store holds, and the removal of what nobody wants kept."""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hublock.core.digest import LENGTHS, Digest
from hublock.store.disk import remove
from hublock.store.incoming import left_behind
from hublock.store.layout import Layout
from hublock.store.mutex import mutex
from hublock.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One thing that lies in a store."""

    kind: Literal["file", "tree", "partial"]
    path: Path
    size: int
    """Bytes of the file, or of all files of the tree."""
    used: float
    """When it was last written or checked, to a quarter of an hour; seconds since the epoch."""
    digest: Digest | None = None
    """None for what is not finished."""


class _Busy(Exception):
    """Somebody works on the thing."""


def contents(store: Store) -> Iterator[Held]:
    """Yield everything that lies in ``store``, in the order of the digests; what vanishes meanwhile is left out."""
    layout = store.layout
    for scheme, folder in (("sha256", "blobs"), ("git-sha256", "trees")):
        for path in _below(layout.root / folder / scheme):
            for item in _below(path):
                if len(item.name) == LENGTHS[scheme] and set(item.name) <= set("0123456789abcdef"):
                    with suppress(FileNotFoundError):
                        digest = Digest(scheme, item.name)
                        yield _held_file(layout, digest) if scheme == "sha256" else _held_tree(layout, digest)


def leftovers(store: Store) -> Iterator[Held]:
    """Yield what broken-off work left in ``store``; the next attempt would take it over."""
    for path in _below(store.layout.partial):
        with suppress(FileNotFoundError):
            facts = path.stat()
            if left_behind(path.with_name(path.name.removesuffix(".facts"))):
                yield Held(kind="partial", path=path, size=facts.st_size, used=facts.st_mtime)


def prune(store: Store, *, keep: Collection[Digest], before: float, pretend: bool = False) -> list[Held]:
    """Remove what ``keep`` does not name and nobody used since ``before`` (seconds since the epoch); return it.

    Files are unlinked and never cut short, so who reads or maps one is not disturbed (POSIX); what somebody is just
    fetching stays.

    Raises:
        StoreError: something cannot be removed.
    """
    gone = []
    for held in [*contents(store), *leftovers(store)]:
        if held.digest in keep or held.used > before:
            continue
        if pretend or _removed(store, held):
            gone.append(held)
    return gone


def _removed(store: Store, held: Held) -> bool:
    """Remove one thing, unless somebody works on it or has used it since; return whether it is gone."""
    with suppress(_Busy), mutex(_lock_of(store, held), on_wait=_give_up):
        if _now(store, held) == held:
            if held.digest is not None:
                store.discard(held.digest)
            else:
                remove(held.path)
            return True
    return False


def _give_up() -> None:
    raise _Busy


def _lock_of(store: Store, held: Held) -> Path:
    if held.digest is not None:
        return store.layout.lock(str(held.digest))
    return store.layout.lock_named(held.path.name.partition("-")[0].partition(".")[0])


def _now(store: Store, held: Held) -> Held | None:
    with suppress(FileNotFoundError):
        if held.digest is None:
            return next((other for other in leftovers(store) if other.path == held.path), None)
        return (_held_file if held.kind == "file" else _held_tree)(store.layout, held.digest)
    return None


def _held_file(layout: Layout, digest: Digest) -> Held:
    path = layout.blob(digest)
    facts = path.stat()
    return Held(kind="file", path=path, size=facts.st_size, used=_used(path, layout.blob_stamp(digest)), digest=digest)


def _held_tree(layout: Layout, digest: Digest) -> Held:
    folder = layout.tree(digest)
    size = sum(os.lstat(Path(here, name)).st_size for here, _, names in os.walk(folder / "tree") for name in names)
    return Held(kind="tree", path=folder, size=size, used=_used(folder, folder / "stamp"), digest=digest)


def _used(path: Path, stamp: Path) -> float:
    used = path.stat().st_mtime
    with suppress(FileNotFoundError):
        used = max(used, stamp.stat().st_mtime)
    return used


def _below(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(folder.iterdir())
    return []
