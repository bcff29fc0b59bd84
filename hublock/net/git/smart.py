"""Git over HTTP (gitprotocol-http, "smart"), through our own transport."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BufferedReader, BytesIO, RawIOBase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hublock.errors import RepositoryNotFound, TransferError, UnsafeArchive
from hublock.net.failures import printable
from hublock.net.git.wire import MAX_TALK, Wire
from hublock.net.retry import ask
from hublock.net.routes import Route
from hublock.net.transport import HttpTransport, Response

if TYPE_CHECKING:
    from dulwich.client import AbstractHttpGitClient

_TAIL = "/info/refs?service=git-upload-pack"
_PACK = "/git-upload-pack"
_Reader = Callable[[int], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Greeting:
    """The answer to the first request, kept: the fetch that follows a resolve need not ask again."""

    body: bytes
    content_type: str
    url: str
    pack: Route
    """Where the packs are asked for: of who greeted, after redirects that need not be repeated for a POST."""
    redirect_location = ""

    def close(self) -> None:
        """Nothing to close: it is in memory."""


class HttpWire(Wire):
    """A repository at an http(s) URL."""

    def __init__(self, name: str, url: str, transport: HttpTransport, route: int) -> None:
        """Reach ``url`` through ``transport`` by its ``route``-th way."""
        super().__init__(name, _http_client(url, self._request))
        self._base, self._transport, self._route = url.rstrip("/"), transport, route
        self._greeting: _Greeting | None = None

    def _greeted(self) -> bytes:
        return self._greeting.body if self._greeting else b""

    def _address(self) -> str:
        return self._greeting.url.removesuffix(_TAIL) if self._greeting else self._base

    def _request(self, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[Any, _Reader]:
        if body is None and url == self._base + _TAIL:
            return self._greet(url, headers)
        if body is None or self._greeting is None or url != self._base + _PACK:
            raise TransferError(f"{self._name} sends hublock to {url}, which is no part of it", lasting=True)
        response = ask(self._transport, "POST", url, headers=headers, body=body, route=self._greeting.pack)
        self._check_status(response)
        answer = _Answer(response, self._hear)
        self._check_refusal(answer.body.peek())
        return answer, answer.body.read

    def _greet(self, url: str, headers: Mapping[str, str]) -> tuple[Any, _Reader]:
        if self._greeting is None:
            with ask(self._transport, "GET", url, headers=headers, route=self._route) as response:
                self._check_status(response)
                self._greeting = self._read_greeting(response)
        return self._greeting, BytesIO(self._greeting.body).read

    def _read_greeting(self, response: Response) -> _Greeting:
        kind = response.headers.get("Content-Type") or ""
        if not kind.startswith("application/x-git-") or not response.way.url.endswith(_TAIL):
            raise RepositoryNotFound(
                f"{self._base} leads to a page, not to a git repository", hint="give the address that `git clone` takes"
            )
        body = response.read(MAX_TALK)
        self._check_refusal(body)
        pack = replace(response.way, url=response.way.url.removesuffix(_TAIL) + _PACK)
        return _Greeting(body=body, content_type=kind, url=response.url, pack=pack)

    def _check_status(self, response: Response) -> None:
        status, host = response.status, self._host()
        if status == 200:
            return
        response.close()
        if status in (401, 404):
            raise RepositoryNotFound(
                f"{host} does not show {self._name}: it does not exist, it is private, "
                "or the host limits visitors without a token",
                hint=f"check the name; for a private or limited repository {credentials(host)}",
            )
        how = "limits visitors" if status == 429 else "refuses git"
        raise TransferError(f"{host} {how} for {self._name} (HTTP {status})", hint=f"try later, or {credentials(host)}")

    def _host(self) -> str:
        """Return who answers: the origin's name, unless a mirror of it alone was asked."""
        way = self._transport.routes(self._base)[self._route]
        return urlsplit(self._base if way.is_network else way.url).hostname or ""

    def _check_refusal(self, start: bytes) -> None:
        """Look for an ``ERR`` line, which dulwich finds only where it expects one."""
        if start.startswith(b"001e# service"):
            start = start[start.find(b"0000") + 4 :]
        if start[4:8] == b"ERR ":
            host = self._host()
            said = printable(start[8 : int(start[:4], 16)].decode("utf-8", "replace"))
            raise TransferError(f"{host} refuses {self._name}: {said}", hint=f"try later, or {credentials(host)}")


def credentials(host: str) -> str:
    """Return what a hint advises to who is not let in by ``host``."""
    netrc = f"add an entry for {host} to ~/.netrc"
    return f"set GITHUB_TOKEN, or {netrc}" if host == "github.com" else netrc


class _Body(RawIOBase):
    """The body of an answer as a file."""

    def __init__(self, response: Response, hear: Callable[[int], None]) -> None:
        self._chunks, self._hear = response.chunks(at_once=True), hear
        self._ahead = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ahead:
            self._ahead = memoryview(next(self._chunks, b""))
            self._hear(len(self._ahead))
        count = min(len(buffer), len(self._ahead))
        buffer[:count], self._ahead = self._ahead[:count], self._ahead[count:]
        return count


class _Answer:
    """An HTTP answer as dulwich wants to see it."""

    redirect_location = ""

    def __init__(self, response: Response, hear: Callable[[int], None]) -> None:
        self.content_type = response.headers.get("Content-Type")
        self.body = BufferedReader(_Body(response, hear), 1 << 16)
        self._response = response

    def close(self) -> None:
        """Read to the end if it is near, so that the connection can be used again."""
        with suppress(TransferError, UnsafeArchive):
            self.body.read(1 << 10)
        self._response.close()


def _http_client(
    url: str, request: Callable[[str, Mapping[str, str], bytes | None], tuple[Any, _Reader]]
) -> "AbstractHttpGitClient":
    from dulwich.client import AbstractHttpGitClient

    class Client(AbstractHttpGitClient):
        def _http_request(
            self,
            url: str,
            headers: dict[str, str] | None = None,
            data: bytes | Iterator[bytes] | None = None,
            raise_for_status: bool = True,  # noqa: ARG002 - dulwich's signature
        ) -> tuple[Any, _Reader]:
            body = data if data is None or isinstance(data, bytes) else b"".join(data)
            return request(url, headers or {}, body)

    return Client(url, thin_packs=False, quiet=True)
