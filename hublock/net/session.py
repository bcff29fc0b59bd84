"""Requests over kept connections: each thread has its own, and waits for an answer no longer than its limit.

``requests`` says how a host is reached (proxies, certificates, netrc) and how a URL is spelled; its pool of connections
is then asked directly, as all that ``requests`` does anew for every request takes longer than a small file.
"""

import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hublock.net.reading import IDLES, Body, Limits, Pace
from hublock.net.routes import is_loopback

if TYPE_CHECKING:
    import socket

    import requests
    from urllib3 import BaseHTTPResponse

HOSTS = 64
"""How many hosts a thread keeps connections to."""


class Sessions:
    """Sends requests; may be shared by threads."""

    def __init__(self, timeouts: tuple[float, float]) -> None:
        """Wait so many seconds for a connection, and for the next bytes."""
        self._timeouts = timeouts
        self._threads = threading.local()
        self._limits = Limits(timeouts[1] * IDLES)
        self.breakable = self._limits.breakable
        self.wait = self._limits.wait
        self.netrc = lru_cache(256)(_netrc)
        """User and password that ``~/.netrc`` has for a URL, or None."""

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Body:
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
        return Body(answer, way.pace, self._limits)

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
        self.pace = Pace()
        self.proxies, self.adapter = found["proxies"], adapter
        self.pool: Any = adapter.get_connection_with_tls_context(asked, found["verify"], self.proxies, found["cert"])
        adapter.cert_verify(self.pool, url, found["verify"], found["cert"])


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
    from http.client import HTTPResponse

    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    def keep(line: "socket.socket | None", answer: Any) -> Any:
        # the connection forgets its line with its last answer
        answer.line = line
        return answer

    class Answer(HTTPResponse):
        def _read_status(self) -> tuple[str, int, str]:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            # of what comes before an answer (RFC 9110, 15.2) http.client passes over 100 alone
            return version, 100 if 101 < status < 200 else status, reason

        def _read_next_chunk_size(self) -> int:
            size: int = super()._read_next_chunk_size()  # type: ignore[misc]
            if size < 0:
                # or all that ever comes would be read at once
                raise ValueError("a chunk of negative size")
            return size

    class Plain(HTTPConnection):
        response_class = Answer

        def getresponse(self) -> Any:
            with limits.watch(self.sock):
                return keep(self.sock, super().getresponse())

    class Secure(HTTPSConnection):
        response_class = Answer

        def getresponse(self) -> Any:
            with limits.watch(self.sock):
                return keep(self.sock, super().getresponse())

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

    try:
        return requests.utils.get_netrc_auth(url)
    except UnicodeDecodeError:
        # passed over, as any other that cannot be read
        return None
