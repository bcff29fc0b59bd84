"""A server that says exactly what a test tells it to, byte by byte."""

import socket
import struct
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

Reply = Callable[[bytes], Iterable[bytes]]
"""From the head of a request to the pieces that are sent; then the connection is closed."""


class Wire:
    """Listens on loopback; a context manager."""

    def __init__(self, reply: Reply, *, reset: bool = False) -> None:
        """Answer every request by ``reply``; with ``reset``, break the connection instead of closing it."""
        self.heads: list[bytes] = []
        self.closing = threading.Event()
        self._reply, self._reset = reply, reset
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with socket.create_connection(self._socket.getsockname()):
            pass
        self._thread.join()
        self._socket.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def _serve(self) -> None:
        while not self.closing.is_set():
            connection, _ = self._socket.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                came = connection.recv(65536)
                if not came:
                    return
                head += came
            self.heads.append(head)
            try:
                for piece in self._reply(head):
                    connection.sendall(piece)
            except OSError:
                return
            if self._reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ok(body: bytes, *headers: str, length: int | str | None = -1, status: str = "200 OK") -> bytes:
    """Return an answer; ``length`` -1 is the true one, None leaves it out."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body
