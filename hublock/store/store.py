"""The content-addressed cache that all projects of a user share: files and source trees by their digest."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from io import BytesIO
from pathlib import Path

from hublock.core.digest import Digest
from hublock.core.tree import SourceFile
from hublock.errors import DigestMismatch, OfflineError, StoreError, TreeMismatch
from hublock.store.disk import (
    Writer,
    make_folder,
    own_name,
    remove,
    sync_folder,
    unreadable,
    write_beside,
    write_whole,
    writing,
)
from hublock.store.incoming import Incoming, left_behind
from hublock.store.layout import TAG, Layout, key_name
from hublock.store.mutex import mutex
from hublock.store.stamps import mark_used, stamp
from hublock.store.trees import StoredTree, check_tree, read_listing, write_tree

__all__ = ["Incoming", "Store", "StoredTree"]

CHUNK = 1 << 20
"""Bytes copied at once."""


class Store:
    """Files (blobs) and source trees by digest; a name that exists is whole.

    Nothing is created before something is written, and reading never writes more than stamps, so a store on read-only
    ground works for all that it holds.
    """

    def __init__(self, root: Path) -> None:
        """Use the store in the cache folder ``root``."""
        self.layout = Layout(root)
        """Where everything lies once it is here."""
        self._prepared = False

    @property
    def root(self) -> Path:
        """The cache folder that the store lies in."""
        return self.layout.cache

    def blob(self, digest: Digest) -> Path | None:
        """Return the file of ``digest``, not hashed again; None if it is not here."""
        path = self.layout.blob(digest)
        return path if path.is_file() else None

    def check_blob(self, digest: Digest, *, size: int | None = None, deep: bool = True) -> None:
        """Hash a file again; unless ``deep``, only if it looks changed since it was last hashed.

        Raises:
            OfflineError: it is not in the store.
            DigestMismatch: its bytes are not those of ``digest``, or not ``size`` many.
        """
        path = self.blob(digest)
        if path is None:
            raise _absent(digest)
        with _reading(path, digest), path.open("rb", buffering=0) as file:
            facts = os.fstat(file.fileno())
            if size is not None and facts.st_size != size:
                raise DigestMismatch(f"{path} has {facts.st_size} bytes, not {size}", hint="hublock sync")
            if not deep and self._stamp_of(digest) == stamp(facts):
                mark_used(self.layout.blob_stamp(digest))
                return
            actual = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
        if actual != digest:
            self._distrust(self.layout.blob_stamp(digest))
            raise DigestMismatch(f"{path} holds bytes of {actual}, not of {digest}", hint="hublock sync")
        if self._stamp_of(digest) == stamp(facts):
            mark_used(self.layout.blob_stamp(digest))
        else:
            # what cannot be noted is hashed again the next time
            with suppress(OSError):
                write_beside(self.layout.blob_stamp(digest), stamp(facts))

    def add_blob(self, source: Path | bytes, digest: Digest | None = None) -> Digest:
        """Copy a file, or bytes, into the store and return its digest.

        Raises:
            DigestMismatch: the bytes are not those of ``digest``.
            StoreError: it cannot be written.
            OSError: ``source`` cannot be read.
        """
        if digest is not None and self.has_blob(digest):
            return digest
        self._prepare()
        with closing(Incoming(self.layout, "copy", alone=False)) as incoming:
            actual = _copy_bytes(source, incoming)
            if digest is not None and actual != digest:
                name = source if isinstance(source, Path) else "what was handed in"
                raise DigestMismatch(f"{name} holds bytes of {actual}, not of {digest}")
            if not self.has_blob(actual):
                incoming.publish(actual)
        return actual

    def has_blob(self, digest: Digest) -> bool:
        """Say whether a file is here with the right bytes; a damaged one goes.

        Raises:
            StoreError: it cannot be removed.
        """
        if self.blob(digest) is None:
            return False
        with self.alone(str(digest)):
            try:
                self.check_blob(digest, deep=False)
            except OfflineError:
                return False
            except DigestMismatch:
                self.discard(digest)
                return False
        return True

    @contextmanager
    def incoming(self, key: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[Incoming]:
        """Hold the partial file of ``key`` (a digest or URL); what is not published stays for the next attempt.

        While somebody else holds it, ``on_wait`` is called about once a second and may raise. Look in the store again
        once you have it.

        Raises:
            StoreError: it cannot be written.
        """
        self._prepare()
        with (
            mutex(self.layout.lock(key), on_wait=on_wait),
            closing(Incoming(self.layout, key_name(key))) as incoming,
        ):
            yield incoming

    def settle(self, paths: Iterable[Path]) -> None:
        """Make the names of files last that were published without: each folder is synced once for all its files."""
        folders = {path.parent for path in paths}
        for folder in sorted(folders | {folder.parent for folder in folders}, reverse=True):
            with writing(folder):
                sync_folder(folder)

    @contextmanager
    def alone(self, key: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Let one process at a time do what ``key`` stands for; ``on_wait`` as in :meth:`incoming`.

        A store that cannot be written holds nobody back.
        """
        path = self.layout.lock(key)
        with suppress(StoreError):
            make_folder(path.parent)
        with mutex(path, on_wait=on_wait) if path.parent.is_dir() else nullcontext():
            yield

    def discard(self, digest: Digest) -> None:
        """Remove a file or tree; what still reads or maps it is not disturbed (POSIX).

        Raises:
            StoreError: it cannot be removed.
        """
        if digest.scheme == "sha256":
            remove(self.layout.blob_stamp(digest))
            remove(self.layout.blob(digest))
            return
        folder = self.layout.tree(digest)
        if folder.exists():
            # a half-removed tree must not be seen under its name
            aside = own_name(self.layout.partial / "tree")
            make_folder(aside.parent)
            with writing(folder):
                folder.rename(aside)
            remove(aside)

    def tree(self, digest: Digest) -> StoredTree | None:
        """Return a source tree, not checked; None if it is not here.

        Raises:
            TreeMismatch: its listing cannot be read.
        """
        folder = self.layout.tree(digest)
        if not folder.is_dir():
            return None
        return StoredTree(digest=digest, root=folder / "tree", listing=read_listing(folder, digest))

    def has_tree(self, digest: Digest) -> bool:
        """Say whether a source tree is here, not checked; one whose listing cannot be read is not."""
        try:
            return self.tree(digest) is not None
        except TreeMismatch:
            return False

    def add_tree(self, files: Iterable[SourceFile], *, expected: Digest | None = None) -> StoredTree:
        """Write a source tree, read-only; one that is here but damaged is replaced.

        Raises:
            TreeMismatch: ``files`` are not the tree ``expected``.
            UnsafeArchive: a path would leave the tree.
            StoreError: it cannot be written.
        """
        self._prepare()
        folder = own_name(self.layout.partial / "tree")
        try:
            listing = write_tree(folder, files)
            digest = listing.digest
            if expected not in (None, digest):
                raise TreeMismatch(f"the source tree is {digest}, not {expected}")
            self._publish_tree(folder, digest)
        finally:
            remove(folder)
        return StoredTree(digest=digest, root=self.layout.tree(digest) / "tree", listing=listing)

    def check_tree(self, digest: Digest, *, deep: bool = True) -> StoredTree:
        """Compare a source tree with its digest: no file missing, extra or changed.

        Unless ``deep``, files that look as when they were last hashed are not hashed again.

        Raises:
            OfflineError: it is not in the store.
            TreeMismatch: it differs; some of the differences are named.
        """
        folder = self.layout.tree(digest)
        if not folder.is_dir():
            raise _absent(digest)
        try:
            tree, stamps = check_tree(folder, digest, deep=deep)
        except TreeMismatch:
            self._distrust(folder / "stamp")
            raise
        with suppress(OSError, StoreError):
            if (folder / "stamp").read_text(encoding="ascii") == stamps:
                mark_used(folder / "stamp")
            else:
                write_whole(folder / "stamp", stamps.encode("ascii"), scratch=self.layout.partial, durable=False)
        return tree

    def note(self, digest: Digest, name: str, data: bytes) -> None:
        """Keep a small fact beside a stored tree.

        Raises:
            OfflineError: the tree is not in the store.
            StoreError: it cannot be written.
        """
        if not self.layout.tree(digest).is_dir():
            raise _absent(digest)
        self._prepare()
        write_whole(self._note(digest, name), data, scratch=self.layout.partial)

    def read_note(self, digest: Digest, name: str) -> bytes | None:
        """Return a fact that :meth:`note` kept, or None."""
        with suppress(OSError):
            return self._note(digest, name).read_bytes()
        return None

    def _note(self, digest: Digest, name: str) -> Path:
        if not re.fullmatch(r"[a-z][a-z0-9.-]*", name):
            raise ValueError(f"{name!r} is not the name of a note")
        return self.layout.tree(digest) / "notes" / name

    def _distrust(self, stamp: Path) -> None:
        """Forget how something looked that turned out wrong, so that the next look is a whole one."""
        with suppress(StoreError):
            remove(stamp)

    def _stamp_of(self, digest: Digest) -> str | None:
        with suppress(OSError, ValueError):
            return self.layout.blob_stamp(digest).read_text(encoding="ascii")
        return None

    def _publish_tree(self, folder: Path, digest: Digest) -> None:
        final = self.layout.tree(digest)
        make_folder(final.parent)
        for _ in range(3):
            if final.exists():
                with suppress(TreeMismatch):
                    check_tree(final, digest, deep=True)
                    return
                self.discard(digest)
            try:
                folder.rename(final)
            except OSError as error:
                # somebody else may have published the same tree since
                if not final.exists():
                    raise StoreError(f"{final} cannot be written: {error.strerror}") from error
            else:
                with writing(final):
                    sync_folder(final.parent)
                return

    def _prepare(self) -> None:
        """Once make the folder of partial files, and clear away what writers who died left in it."""
        if self._prepared:
            return
        layout = self.layout
        make_folder(layout.partial)
        if not layout.tag.exists():
            write_whole(layout.tag, TAG, scratch=layout.partial)
        for name in os.listdir(layout.partial):  # noqa: PTH208 - no globs: they compile a pattern each
            if name.startswith(("tree-", "small-", "copy-")) and left_behind(layout.partial / name):
                # what another user has left is only space
                with suppress(StoreError):
                    remove(layout.partial / name)
        self._prepared = True


def _absent(digest: Digest) -> OfflineError:
    return OfflineError(f"{digest} is not in the store", hint="hublock sync")


@contextmanager
def _reading(path: Path, digest: Digest) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise _absent(digest) from None
    except OSError as error:
        raise unreadable(path, error) from error


def _copy_bytes(source: Path | bytes, target: Incoming) -> Digest:
    engine = hashlib.sha256()
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering=0) as file:
        writer = Writer(target.open())
        while piece := file.read(CHUNK):
            engine.update(piece)
            with writing(target.path):
                writer.write(piece)
    return Digest("sha256", engine.hexdigest())
