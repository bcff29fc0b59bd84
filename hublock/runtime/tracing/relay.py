"""Questions of programs that a traced entry point starts: its own process passes them on, and the answers back."""

import os
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener

from hublock.errors import IncompleteTrace
from hublock.runtime.tracing.wire import Channel, Message


class Relay:
    """Listens, as long as this process lives, to programs that connect to ``address``."""

    def __init__(self, channel: Channel) -> None:
        """Pass on what they ask over ``channel``.

        Raises:
            OSError: nobody could connect, as where the folder for temporary files has too long a name.
        """
        self._channel = channel
        # names of sockets may be no longer than some hundred bytes, and those of multiprocessing's choice are long
        short = None if os.name == "nt" else os.path.join(tempfile.gettempdir(), f"q{os.getpid()}")  # noqa: PTH118
        self._listener = Listener(short, backlog=16)
        self.address = str(self._listener.address)
        threading.Thread(target=self._listen, name="hublock-relay", daemon=True).start()

    def _listen(self) -> None:
        while True:
            connection = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), name="hublock-relay", daemon=True).start()

    def _serve(self, connection: "Connection[Message, Message]") -> None:
        with connection, suppress(EOFError, OSError):
            while (reply := self._channel.exchange(connection.recv())) is not None:
                connection.send(reply)


class Afar:
    """Asks from a program, over a line of its own that is opened with the first question."""

    def __init__(self, address: str | None) -> None:
        """Ask whoever listens at ``address``; None if nobody does."""
        self.address = address
        self._connection: Connection[Message, Message] | None = None
        self._mutex = threading.Lock()

    def __reduce__(self) -> tuple[type, tuple[str | None]]:
        """Open a line of its own in each process."""
        return Afar, (self.address,)

    def exchange(self, message: Message) -> Message | None:
        """Say ``message`` and return the answer, or None when nobody gives one any more.

        Raises:
            IncompleteTrace: no program can be answered here.
        """
        if self.address is None:
            raise IncompleteTrace(
                "a program that the entry point starts asks for a file, and cannot be answered below this folder for "
                "temporary files",
                hint="set TMPDIR to a folder with a shorter name",
            )
        with self._mutex:
            try:
                if self._connection is None:
                    self._connection = Client(self.address)
                self._connection.send(message)
                return self._connection.recv()
            except (EOFError, OSError):
                return None
