"""Where a URL is really asked for: mirrors, plain http, and what of a URL may be shown."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from hublock.errors import TransferError

SECRETS = re.compile(r"sig|token|key|secret|pass|auth|cred|policy|jwt|session", re.IGNORECASE)
"""Names of query fields that may sign a URL, as object stores and CDNs spell them."""
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One way to reach a URL."""

    url: str
    """What is asked for: a mirror's address, or the URL itself."""
    rule: tuple[str, str] | None = None
    """The mirror rule ``(from, to)`` that led here; None for the origin."""

    def canonical(self, location: str) -> str:
        """Return the address of ``location`` as the origin would spell it, so that no mirror is ever recorded."""
        if self.rule and _covers(self.rule[1], location):
            return self.rule[0] + location[len(self.rule[1]) :]
        return location

    @property
    def origin(self) -> str:
        """The URL as the origin spells it."""
        return self.canonical(self.url)

    def vouches_for(self, there: "Route") -> bool:
        """Say whether a redirect from here to ``there`` tells a new address of the origin: a mirror may only move."""
        if self.rule is None:
            return True
        spelled = there.rule is None or _covers(there.rule[1], there.url)
        return spelled and _covers(self.rule[0], there.origin)

    @property
    def is_network(self) -> bool:
        """Whether the mirror stands for the whole network, as on a site with no line to it."""
        return self.rule is not None and self.rule[0].endswith("://")

    @property
    def by_mirror(self) -> str:
        """What a message adds where a mirror was asked instead of the origin."""
        return f" by its mirror {redact(self.url)}" if self.rule else ""

    @property
    def owner(self) -> str:
        """The URL whose host's credentials may be sent: the origin's if its mirror is on loopback, else who answers."""
        return self.origin if is_loopback(urlsplit(self.url).hostname) else self.url


def routes(url: str, mirrors: Sequence[tuple[str, str]]) -> tuple[Route, ...]:
    """Return the ways to reach ``url``, best first: the mirrors that cover it, longest prefix first, then the origin.

    A rule whose ``from`` names no host (``https://``) stands for the whole network: behind it there is no origin.
    """
    spelled = _normal(url)
    found = []
    for rule in mirrors:
        if _covers(rule[0], spelled):
            found.append(Route(url=rule[1] + spelled[len(rule[0]) :], rule=rule))
            if found[-1].is_network:
                return tuple(found)
    return (*found, Route(url=url))


def passed_over(route: Route, following: Route, reason: str) -> str:
    """Say that a mirror, or one of several addresses of a file, failed, and who is asked next."""
    if route.origin != following.origin:
        return f"{redact(route.origin)} failed, asking {redact(following.origin)}: {reason}"
    asked = "the next mirror" if following.rule else "the origin"
    return f"{'mirror ' if route.rule else ''}{redact(route.url)} failed, asking {asked}: {reason}"


def check(route: Route) -> None:
    """Refuse what is never asked for.

    Raises:
        TransferError: the address is no http(s) URL, or plain http beyond loopback that no mirror rule allows.
    """
    parts = _parse(route.url)
    if route.rule:
        parts = _parse(route.origin)
    if parts.scheme == "http" and route.rule is None and not is_loopback(parts.hostname):
        raise TransferError(
            f"{redact(route.url)} is plain http, which anyone on the line can change",
            hint="use its https address, or allow it by a rule in HUBLOCK_MIRRORS",
            lasting=True,
        )


def _parse(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise TransferError(f"{redact(url)} is not a URL: {error}", lasting=True) from None
    # before a backslash others end the host, where urlsplit reads on: https://evil.org\\@github.com/
    if parts.scheme not in DEFAULT_PORTS or not host or "\\" in parts.netloc:
        raise TransferError(f"{redact(url)} is not an http or https URL", lasting=True)
    return parts


def join(base: str, location: str) -> str:
    """Resolve a redirect's ``location`` against ``base``, without user info and fragment.

    Raises:
        ValueError: the result is no URL.
    """
    parts = urlsplit(urljoin(base, location))
    _ = parts.port
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def with_user_of(known: str, url: str) -> str:
    """Return ``url``, which has none, with the user info of ``known``."""
    user, at, _ = urlsplit(known).netloc.rpartition("@")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=user + at + parts.netloc))


def same_origin(left: str, right: str) -> bool:
    """Say whether two URLs share scheme, host and port (RFC 6454)."""
    return _origin(urlsplit(left)) == _origin(urlsplit(right))


@lru_cache(256)
def is_loopback(host: str | None) -> bool:
    """Say whether ``host`` can only be this machine."""
    if not host:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def redact(url: str) -> str:
    """Return ``url`` as it may be shown: without user info, and without a query that signs it."""
    head, mark, query = url.partition("?")
    scheme, slashes, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    shown = scheme + slashes + authority.rpartition("@")[2] + slash + path
    names = (field.partition("=")[0] for field in query.split("&"))
    return shown + mark + ("…" if any(SECRETS.search(name) for name in names) else query)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


def _normal(url: str) -> str:
    """Lower the case of scheme and host, which mean the same in any case (RFC 3986, 6.2.2.1)."""
    scheme, slashes, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return scheme.lower() + slashes + user + at + host.lower() + slash + path


def _covers(prefix: str, url: str) -> bool:
    """Say whether ``url`` lies under ``prefix``: ``https://a.org`` does not cover ``https://a.organic``."""
    return url.startswith(prefix) and (prefix.endswith("/") or url[len(prefix) : len(prefix) + 1] in ("", "/", "?"))
