"""An HTTP proxy on loopback: whatever host is asked for, one port of this machine answers."""

import base64
import socket
import threading
from socketserver import StreamRequestHandler, ThreadingTCPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Speaks both kinds of proxying: CONNECT, and requests with an absolute URI (RFC 9112, 3.2); a context manager."""

    def __init__(self, to: str, *, login: str | None = None) -> None:
        """Lead every host to the port of the URL ``to``; refuse who does not send ``login`` (``user:password``)."""
        self.port = urlsplit(to).port or 0
        self.login = login
        self.heads: list[str] = []
        """Of every request, CONNECT among them: what the proxy could read."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        login = f"{self.login}@" if self.login else ""
        return f"http://{login}127.0.0.1:{self._server.server_address[1]}"

    @property
    def lines(self) -> list[str]:
        """The first line of every request."""
        return [head.partition(" HTTP/")[0] for head in self.heads]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that breaks off is what some tests are about."""


class _Handler(StreamRequestHandler):
    proxy: Proxy

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line)
        if not lines:
            return
        self.proxy.heads.append(b"".join(lines).decode("latin-1"))
        headers = {name.strip().lower(): value.strip() for name, _, value in (row.partition(b":") for row in lines[1:])}
        if self.proxy.login is not None:
            expected = b"Basic " + base64.b64encode(self.proxy.login.encode())
            if headers.get(b"proxy-authorization") != expected:
                self.wfile.write(REFUSED)
                return
        method, target, _ = lines[0].split(b" ")
        with socket.create_connection(("127.0.0.1", self.proxy.port)) as upstream:
            if method == b"CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._tunnel(upstream)
            else:
                self._forward(upstream, method, target, lines[1:], int(headers.get(b"content-length", 0)))

    def _tunnel(self, upstream: socket.socket) -> None:
        back = threading.Thread(target=_pour, args=(upstream, self.connection), daemon=True)
        back.start()
        _pour(self.connection, upstream)
        back.join()

    def _forward(self, upstream: socket.socket, method: bytes, target: bytes, headers: list[bytes], size: int) -> None:
        parts = urlsplit(target.decode())
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        kept = [row for row in headers if not row.lower().startswith((b"connection:", b"proxy-"))]
        head = method + b" " + path.encode() + b" HTTP/1.1\r\n" + b"".join(kept) + b"Connection: close\r\n\r\n"
        upstream.sendall(head + self.rfile.read(size))
        with upstream.makefile("rb") as answer:
            self.wfile.write(answer.readline() + b"Connection: close\r\n")
            while data := answer.read1():
                self.wfile.write(data)


def _pour(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
