"""Requests over kept connections: each thread has its own, and an answer's head must come within a time.

``requests`` prepares, proxies and verifies; what it would find out anew for every request (proxies, certificates,
netrc) is remembered, as that takes longer than a small file.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hublock.net.routes import is_loopback

if TYPE_CHECKING:
    import socket

    import requests

HEAD_IDLES = 2
"""How many idle time-outs the head of an answer may take in all, however steadily it drips."""

Authorize = Callable[["requests.PreparedRequest"], "requests.PreparedRequest"]


class Sessions:
    """Sends requests; may be shared by threads."""

    def __init__(self, timeouts: tuple[float, float]) -> None:
        """Wait so many seconds for a connection, and for the next bytes."""
        self._timeouts = timeouts
        self._threads = threading.local()
        self._limits = Limits(timeouts[1] * HEAD_IDLES)
        self.netrc = lru_cache(256)(_netrc)
        """User and password that ``~/.netrc`` has for a URL, or None."""

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, authorize: Authorize
    ) -> "requests.Response":
        """Send one request and return its answer, the body still on the line; redirects are not followed.

        No cookie is sent or kept: what one answer sets must not change what the next request gets.
        """
        import requests

        session = self._session()
        # always an authorization of ours, so that requests adds none by itself
        request = requests.Request(method, url, headers={**session.headers, **headers}, data=body, auth=authorize)
        adapter = session.get_adapter(url)
        return adapter.send(request.prepare(), timeout=self._timeouts, **self._surroundings(session, url))

    def _surroundings(self, session: "requests.Session", url: str) -> Mapping[str, Any]:
        """Return proxies and certificates for the host of ``url``, as the user's environment says."""
        known: dict[tuple[str, str], Mapping[str, Any]] = self._threads.known
        parts = urlsplit(url)
        key = parts.scheme, parts.netloc
        if key not in known:
            known[key] = session.merge_environment_settings(url, _proxies(url), True, None, None)
        return known[key]

    def _session(self) -> "requests.Session":
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = _new_session(self._limits)
            self._threads.known = {}
        return session


class Limits:
    """Breaks connections whose answer takes too long; one thread watches all of them."""

    def __init__(self, seconds: float) -> None:
        """Allow every answer so many seconds."""
        self._seconds = seconds
        self._changed = threading.Condition()
        self._waiting: dict[object, tuple[float, socket.socket]] = {}
        self._watching = False

    @contextmanager
    def watch(self, line: "socket.socket | None") -> Iterator[None]:
        """Break ``line`` if the block takes too long.

        Raises:
            TimeoutError: it did.
        """
        token = object()
        with self._changed:
            if line is not None:
                self._waiting[token] = time.monotonic() + self._seconds, line
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._work, name="hublock-limits", daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                in_time = line is None or self._waiting.pop(token, None) is not None
            # also without an error: a head that breaks off amid its fields passes for a whole one
            if not in_time:
                raise TimeoutError

    def _work(self) -> None:
        with self._changed:
            while self._waiting:
                now = time.monotonic()
                for token in [token for token, (end, _) in self._waiting.items() if end <= now]:
                    _break(self._waiting.pop(token)[1])
                # it need not be exact, and waking it for every request would cost more than a small file
                self._changed.wait(self._seconds / 8)
            self._watching = False


def _break(line: "socket.socket") -> None:
    import socket

    # not by the line's own method: that of TLS pulls the layer away from under a reader in another thread
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)


def _new_session(limits: Limits) -> "requests.Session":
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = _pools(limits)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(*args, **kwargs)
            manager.pool_classes_by_scheme = _pools(limits)
            return manager

    session = requests.Session()
    session.headers["User-Agent"] = "hublock"
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session


def _pools(limits: Limits) -> Any:
    """Return urllib3's pools, whose connections wait for the head of an answer no longer than ``limits`` says."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Plain(HTTPConnection):
        def getresponse(self) -> Any:
            with limits.watch(self.sock):
                return super().getresponse()

    class Secure(HTTPSConnection):
        def getresponse(self) -> Any:
            with limits.watch(self.sock):
                return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _proxies(url: str) -> dict[str, str]:
    """Keep what is for this machine away from proxies, who could read the token; else the environment decides."""
    host = urlsplit(url).hostname
    return {"no_proxy": host} if host and is_loopback(host) else {}


def _netrc(url: str) -> tuple[str, str] | None:
    import requests.utils

    return requests.utils.get_netrc_auth(url)
