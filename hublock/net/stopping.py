"""How transfers in several threads are told to end, wherever they wait."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hublock.errors import TransferError

if TYPE_CHECKING:
    from hublock.net.transport import HttpTransport


class Stop:
    """Tells several transfers to end soon."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._mutex = threading.Lock()
        self._calls: set[Callable[[], None]] = set()

    def set(self) -> None:
        """End every transfer that watches."""
        with self._mutex:
            self._event.set()
            # none may come late: its thread could be waiting for something else by then
            for call in self._calls:
                call()

    def check(self) -> None:
        """End this transfer if it shall.

        Raises:
            TransferError: it shall.
        """
        if self._event.is_set():
            raise TransferError("the transfer was stopped", lasting=True)

    def sleep(self, time: float) -> None:
        """Wait so many seconds, or until told to stop."""
        self._event.wait(time)

    @contextmanager
    def ending(self, transport: "HttpTransport") -> Iterator[None]:
        """End the waiting of this thread, for whatever answer of ``transport``, once it shall end.

        Raises:
            TransferError: it shall already.
        """
        with transport.breakable() as give_up:
            with self._mutex:
                self._calls.add(give_up)
            try:
                self.check()
                yield
            finally:
                with self._mutex:
                    self._calls.discard(give_up)
