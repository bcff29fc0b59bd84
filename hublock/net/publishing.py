"""Finished files get their names together: to sync many at once costs a file system little more than to sync one."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hublock.core.digest import Digest
from hublock.errors import StoreError, TransferError
from hublock.net.routes import redact
from hublock.store.store import Incoming, Store

if TYPE_CHECKING:
    from pathlib import Path


MOST = 64
"""How many finished files may wait for their names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A file that was fetched and hashed."""

    url: str
    digest: Digest
    incoming: Incoming
    held: ExitStack
    """What is let go of once the file has its name."""


class Publisher:
    """Names what several threads finish; use it as a context, at whose end all names last.

    The thread that comes first works for those that come meanwhile, and they go on (group commit). So nothing that is
    finished ever waits for another file to be fetched, nor do other processes that want it.
    """

    def __init__(self, store: Store) -> None:
        """Publish into ``store``."""
        self._store = store
        self._changed = threading.Condition()
        self._finished: list[Finished] = []
        self._busy = False
        self._named: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        with ExitStack() as last:
            last.callback(self._store.settle, self._named)
            # what came after a failure goes
            for item in self._finished:
                last.push(item.held)

    def publish(self, finished: Finished) -> None:
        """Name a finished file, now or, if another thread is at that, soon.

        Raises:
            StoreError: it, or one that came meanwhile, cannot be written.
        """
        with self._changed:
            # each holds two open files: a disk that is slower than the line makes the line wait
            self._changed.wait_for(lambda: len(self._finished) < MOST or not self._busy)
            self._finished.append(finished)
            if self._busy:
                return
            self._busy = True
        try:
            while batch := self._next():
                self._publish(batch)
        except BaseException:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
            raise

    def _next(self) -> list[Finished]:
        with self._changed:
            batch, self._finished = self._finished, []
            self._busy = bool(batch)
            self._changed.notify_all()
            return batch

    def _publish(self, batch: list[Finished]) -> None:
        with ExitStack() as held:
            for item in batch:
                held.enter_context(item.held)
            # all before the first gets its name: a rename between them would be one more thing to write
            for item in batch:
                with naming(item.url):
                    item.incoming.sync()
            for item in batch:
                with naming(item.url):
                    self._named.append(item.incoming.publish(item.digest, settle=False))


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Name the file in every failure: the address of a redirect or a folder does not tell which file was wanted."""
    try:
        yield
    except (TransferError, StoreError) as error:
        shown = redact(url)
        if shown not in error.message:
            error.message = f"{shown}: {error.message}"
            error.args = (error.message,)
        raise
