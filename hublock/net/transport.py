"""HTTP as the rooms above need it: mirrors, redirects, credentials and time limits in one place, one kind of error."""

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Self
from urllib.parse import unquote, urlsplit

from hublock.core.progress import Progress
from hublock.errors import TransferError
from hublock.net.failures import AGAIN, told
from hublock.net.reading import Body
from hublock.net.routes import Route, check, is_loopback, join, passed_over, redact, routes, same_origin, with_user_of
from hublock.net.session import Sessions
from hublock.settings import Settings

CHUNK = 1 << 18
"""Bytes that come at once at most: more would not stay in the processor's cache until they are hashed and written."""
MAX_REDIRECTS = 5
CONNECT_TIMEOUT, IDLE_TIMEOUT = 10.0, 30.0
BEARERS = {"huggingface.co", "api.github.com"}
"""Hosts that want a token as it is; the others take it as a password, as git sends it."""
REDIRECTS = {301, 302, 303, 307, 308}
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Response:
    """One answer, its body still on the line; use it as a context manager, or close it."""

    def __init__(self, body: Body, way: Route) -> None:
        """Wrap the answer to a request by ``way``."""
        answer = body.answer
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers
        """Case-insensitive."""
        self.way = way
        """The way by which the answer came, after redirects."""
        self.url = way.origin
        """Where the answer came from after redirects, as the origin spells it: never a mirror's address."""
        self._answer = answer
        self._body = body

    @property
    def chunked(self) -> bool:
        """Whether the body says itself where it ends; one without that and a length ends with the line."""
        return bool(self._answer.chunked)

    @property
    def encoding(self) -> str | None:
        """The Content-Encoding; None where the body is the file as it is."""
        coding = self.headers.get("Content-Encoding", "").strip().lower()
        return None if coding in ("", "identity") else coding

    @property
    def unknown_coding(self) -> str | None:
        """A Transfer-Encoding whose framing http.client would give as part of the body."""
        codings = {coding.lower() for coding in self._answer.headers.getlist("Transfer-Encoding")}
        return None if codings in (set(), {"identity"}, {"chunked"}) else ", ".join(sorted(codings))

    def chunks(self, size: int = CHUNK, *, at_once: bool = False) -> Iterator[bytes]:
        """Give the body as it comes over the line, not decoded, in pieces of at most ``size`` bytes.

        ``at_once`` gives whatever has come: a host that works for long may send a few bytes to say so.

        Raises:
            TransferError: the line broke, fell silent, crawled, or ended before the announced length.
        """
        with told(self.url, "broke off"):
            try:
                while piece := self._body.read(size, at_once=at_once):
                    yield piece
            except TimeoutError as error:
                raise TransferError(f"{redact(self.url)} crawls: {error}") from None

    def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TransferError: it is longer than ``limit`` bytes, or the line broke.
        """
        body = bytearray()
        for piece in self.chunks():
            body += piece
            if len(body) > limit:
                raise TransferError(f"{redact(self.url)} answers with more than {limit} bytes", lasting=True)
        return bytes(body)

    def close(self) -> None:
        """Give the connection back: kept for the next request if the body was read to its end, else closed."""
        self._answer.close()
        self._answer.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HttpTransport:
    """HTTP by ``requests``, as the user's proxies, netrc and certificate settings say.

    May be shared by threads: each has connections of its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        """Use the mirrors and tokens of ``settings``; the time-outs are in seconds."""
        self._progress = progress or Progress()
        self._mirrors = settings.mirrors
        self._tokens = settings.tokens
        self._waits: dict[tuple[str, str], float] = {}
        self._sessions = Sessions((connect_timeout, idle_timeout))

    def routes(self, url: str) -> tuple[Route, ...]:
        """Return the ways to reach ``url``, best first: its mirrors, then the origin."""
        return routes(url, self._mirrors)

    def breakable(self) -> AbstractContextManager[Callable[[], None]]:
        """Give a function with which another thread ends the waiting of this one in the block, now and from then on."""
        return self._sessions.breakable()

    def wait(self, seconds: float, way: Route) -> bool:
        """Wait so many seconds, as who answered by ``way`` asks, and tell whether that was done.

        Each host is waited for once: others who ask it meanwhile wait along, and those who come later do not.

        Raises:
            TransferError: another thread ended the waiting.
        """
        now = time.monotonic()
        # a host is often asked for many files, whose waits would add up
        end = self._waits.setdefault(urlsplit(way.url)[:2], now + seconds)
        if now > end:
            return False
        try:
            self._sessions.wait(end - now)
        except TimeoutError:
            raise TransferError("the transfer was stopped", lasting=True) from None
        return True

    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        route: int | Route | None = None,
    ) -> Response:
        """Ask for ``url``, following at most five redirects, and return the answer, whatever its status.

        By its ``route``-th way (see :meth:`routes`), or by the ``route`` that is given, as a conversation goes on with
        who began it; None is the first way by which there is a good answer, else the last. Where a mirror gives none,
        ``progress`` is told.
        Credentials go to the host they are for, over https or loopback, and never past a redirect to another origin.
        A redirect of anything but GET and HEAD is followed only where it keeps the method (307, 308).

        Raises:
            TransferError: there was no answer, or asking is refused: plain http, too many redirects.
        """
        ways = (route,) if isinstance(route, Route) else self.routes(url)
        ask = partial(self._open, method, headers, body, ways)
        return self._first_good(ways[route : route + 1] if isinstance(route, int) else ways, ask)[1]

    def _first_good(self, ways: Sequence[Route], ask: Callable[[Route], Response]) -> tuple[Route, Response]:
        """Return the first good answer that ``ask`` gets by one of ``ways``, else the last one, and its way."""
        for way, following in pairwise(ways):
            try:
                response = ask(way)
            except TransferError as error:
                reason = error.message
            else:
                if response.status < 400:
                    return way, response
                # what a mirror does not have is not yet what there is not
                response.close()
                reason = f"it answers with status {response.status}"
            self._progress.warn(passed_over(way, following, reason))
        return ways[-1], ask(ways[-1])

    def _open(
        self, method: str, headers: Mapping[str, str], body: bytes | None, ways: Sequence[Route], way: Route
    ) -> Response:
        """Ask by one of ``ways``; where it redirects, ways as far from the first, or farther, come first."""
        here, trusted, url, vouched = way, True, way.origin, True
        response = self._answer(method, headers, body, here, trusted, here)
        hops, passed = 0, ways[: ways.index(way)]
        while response.status in REDIRECTS:
            response.close()
            if hops == MAX_REDIRECTS:
                raise TransferError(f"{redact(way.origin)} redirects more than {MAX_REDIRECTS} times", lasting=True)
            hops += 1
            following = self._follow(here, response.status, response.headers.get("Location"), method, passed)
            ask = partial(self._answer, method, headers, body, here, trusted)
            there, response = self._first_good(following, ask)
            vouched = vouched and here.vouches_for(there)
            url = there.origin if vouched else url
            here, trusted = there, trusted and same_origin(here.owner, there.owner)
        response.url = url
        return response

    def _answer(
        self, method: str, headers: Mapping[str, str], body: bytes | None, before: Route, trusted: bool, way: Route
    ) -> Response:
        """Ask by ``way``, to which ``before`` led; credentials are for who is ``trusted`` and of the same origin."""
        check(way)
        trusted = trusted and (way is before or same_origin(before.owner, way.owner))
        response = Response(self._ask(method, way, headers, body, trusted=trusted), way)
        # an answer to HEAD has no body that could be misread
        if method != "HEAD" and (coding := response.unknown_coding):
            response.close()
            raise TransferError(f"{redact(way.origin)} answers in the transfer coding {coding!r}", lasting=True)
        return response

    def _follow(
        self, here: Route, status: int, location: str | None, method: str, passed: Sequence[Route]
    ) -> Sequence[Route]:
        """Return the ways to where the redirect from ``here`` leads, none of them by a mirror that was ``passed``."""
        if not location:
            raise TransferError(f"{redact(here.origin)} redirects ({status}) to nowhere", lasting=True)
        if method not in ("GET", "HEAD") and status not in (307, 308):
            raise TransferError(f"{redact(here.origin)} redirects ({status}) a {method} request", lasting=True)
        with suppress(UnicodeError):
            # http.client takes every header for latin-1
            location = location.encode("latin-1").decode("utf-8")
        try:
            target = join(here.url, location)
        except ValueError:
            raise TransferError(f"{redact(here.origin)} redirects to something that is no URL", lasting=True) from None
        if here.rule and same_origin(here.url, target):
            # the login that a rule holds is for all of its mirror
            return (Route(url=with_user_of(here.url, target), rule=here.rule),)
        ways = self.routes(target)
        # what was passed over may have lied, and may be what mirrors this host too under another rule
        nearest = min(len(passed), len(ways) - 1)
        failed = [way.rule for way in passed]
        return (*ways[nearest:], *(way for way in ways[:nearest] if way.rule not in failed))

    def _ask(self, method: str, route: Route, headers: Mapping[str, str], body: bytes | None, *, trusted: bool) -> Body:
        sent = {"Accept-Encoding": "identity", **headers}
        if not trusted:
            sent = {name: value for name, value in sent.items() if name.lower() not in ("authorization", "cookie")}
        elif secret := self._secret(route):
            sent.setdefault("Authorization", secret)
        hint = "check the mirrors in HUBLOCK_MIRRORS and the config file" if route.rule else AGAIN
        with told(route.origin, "cannot be reached" + route.by_mirror, hint=hint):
            return self._sessions.send(method, route.url, sent, body)

    def _secret(self, route: Route) -> str | None:
        asked, owner = urlsplit(route.url), urlsplit(route.owner)
        local = is_loopback(asked.hostname)
        if asked.scheme != "https" and not local:
            return None
        if asked.username:
            return _basic(unquote(asked.username), unquote(asked.password or ""))
        host = owner.hostname or ""
        token = self._tokens.get(host) if local or owner.port in (None, 443) else None
        if token:
            return f"Bearer {token}" if host in BEARERS else _basic("x-access-token", token)
        pair = self._sessions.netrc(f"{owner.scheme}://{owner.netloc}/")
        return _basic(*pair) if pair else None


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
