"""Requests over kept connections: each thread has its own, and an answer's head must come within a time.

``requests`` says how a host is reached (proxies, certificates, netrc) and how a URL is spelled; its pool of connections
is then asked directly, as all that ``requests`` does anew for every request takes longer than a small file.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hublock.net.routes import is_loopback

if TYPE_CHECKING:
    import socket

    import requests
    from urllib3 import BaseHTTPResponse

HEAD_IDLES = 2
"""How many idle time-outs the head of an answer may take in all, however steadily it drips."""

HOSTS = 64
"""How many hosts a thread keeps connections to."""


class Sessions:
    """Sends requests; may be shared by threads."""

    def __init__(self, timeouts: tuple[float, float]) -> None:
        """Wait so many seconds for a connection, and for the next bytes."""
        self._timeouts = timeouts
        self._threads = threading.local()
        self._limits = Limits(timeouts[1] * HEAD_IDLES)
        self.netrc = lru_cache(256)(_netrc)
        """User and password that ``~/.netrc`` has for a URL, or None."""

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> "BaseHTTPResponse":
        """Send one request and return its answer, the body still on the line; redirects are not followed.

        No cookie is sent or kept: what one answer sets must not change what the next request gets.
        """
        import requests
        from urllib3 import Timeout

        asked = requests.PreparedRequest()
        asked.prepare_url(url, None)
        asked.prepare_headers({"User-Agent": "hublock", "Accept": "*/*", **headers})
        way = self._way(asked)
        answer: BaseHTTPResponse = way.pool.urlopen(
            method,
            way.adapter.request_url(asked, way.proxies),
            body=body,
            headers=asked.headers,
            timeout=Timeout(connect=self._timeouts[0], read=self._timeouts[1]),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        return answer

    def _way(self, asked: "requests.PreparedRequest") -> "_Way":
        """Return how the host that is asked is reached from this thread, as the user's environment says."""
        ways: dict[tuple[str, str], _Way] = self._threads.__dict__.setdefault("ways", {})
        parts = urlsplit(asked.url or "")
        key = parts.scheme, parts.netloc
        if key not in ways:
            if len(ways) == HOSTS:
                # a pool that nobody holds is closed
                ways.clear()
            ways[key] = _Way(self._session(), asked)
        return ways[key]

    def _session(self) -> "requests.Session":
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = _new_session(self._limits)
        return session


class _Way:
    """How one host is reached: through which proxy, and over which connections."""

    def __init__(self, session: "requests.Session", asked: "requests.PreparedRequest") -> None:
        url = str(asked.url)
        found = session.merge_environment_settings(url, _proxies(url), True, None, None)
        adapter: Any = session.get_adapter(url)
        self.proxies, self.adapter = found["proxies"], adapter
        self.pool: Any = adapter.get_connection_with_tls_context(asked, found["verify"], self.proxies, found["cert"])
        adapter.cert_verify(self.pool, url, found["verify"], found["cert"])


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
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter(pool_connections=HOSTS))
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
