"""One URL by one route: what is asked for, and which answers are good enough to read."""

import re
import time
from dataclasses import dataclass

from hublock.errors import TransferError
from hublock.net.releases import is_asset
from hublock.net.retry import BUSY, LATER, retry_after
from hublock.net.routes import redact
from hublock.net.transport import HttpTransport, Response

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class Changed(Exception):
    """What the host has now is not what the bytes at hand are from; begin again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A good answer, its body unread."""

    response: Response
    start: int
    """The offset of its first byte in the file."""
    total: int | None
    """The size of the whole file, if the host says it."""
    validator: str | None
    """What If-Range takes to get more of the same version (RFC 9110, 13.1.5)."""
    ranges: bool
    """Whether the host offers parts."""

    @property
    def is_html(self) -> bool:
        """Whether the host calls the body a web page."""
        return self.response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A URL, and by which of its routes it is asked for."""

    transport: HttpTransport
    url: str
    route: int
    by_validator: bool = False
    """Whether nothing else will tell that parts are of one version, as no lock names a digest: a part that does not
    repeat it proves nothing."""

    @property
    def address(self) -> str:
        """Where the URL is really asked for."""
        return self.transport.routes(self.url)[self.route].url

    def ask(self, start: int = 0, stop: int | None = None, validator: str | None = None) -> Answer:
        """Ask for the bytes from ``start`` to ``stop``, of the version ``validator`` if one is given.

        The answer may begin at 0 instead: then the host gives no parts, or has another version.

        Raises:
            Changed: the answer is a part of something else.
            TransferError: no usable answer came.
        """
        headers: dict[str, str] = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            if validator:
                headers["If-Range"] = validator
        response = self.transport.open("GET", self.url, headers=headers, route=self.route)
        try:
            self._check_status(response)
            return self._accept(response, start, stop, validator)
        except BaseException:
            response.close()
            raise

    def _accept(self, response: Response, start: int, stop: int | None, validator: str | None) -> Answer:
        answer = _read_head(response)
        if response.status == 206:
            last = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if last is None or answer.start != start or (stop is not None and int(last[2]) + 1 != stop):
                raise Changed("the host sends other bytes than it was asked for")
            if stop is None and answer.total is None:
                # it may be less than was asked for, and then looks like the end
                raise Changed("the host does not say where the file ends")
            if validator and answer.validator != validator and (answer.validator or self.by_validator):
                raise Changed("the host has another version than before")
        return answer

    def _check_status(self, response: Response) -> None:
        status = response.status
        if status in (200, 206):
            refuse_encoded(self.url, response)
            return
        if status == 416:
            raise Changed("it has fewer bytes than before")
        shown, wait = redact(self.url), retry_after(response.headers, time.time())
        if status in BUSY or (status == 403 and wait is not None):
            asks = "" if wait is None else f" and asks to wait {wait:.0f} s"
            raise TransferError(f"{shown} answers with status {status}{asks}", hint=LATER, wait=wait)
        raise TransferError(
            _MESSAGES.get(status, "{url} answers with status {status}").format(url=shown, status=status),
            hint=self._hint(status),
            lasting=True,
        )

    def _hint(self, status: int) -> str | None:
        if status in (401, 403):
            return _LOGIN
        if status == 404 and is_asset(self.url):
            return _PRIVATE
        return (_ADDRESS if self.by_validator else _MOVED) if status in (404, 410) else None


def refuse_encoded(url: str, response: Response) -> None:
    """Refuse an answer for ``url`` whose body is not the file as it is.

    Raises:
        TransferError: it is encoded, though nobody asked for that.
    """
    if response.encoding is not None:
        raise TransferError(
            f"{redact(url)} answers in the encoding {response.encoding!r}, which nobody asked for", lasting=True
        )


_MESSAGES = {404: "{url} does not exist (404)", 410: "{url} is gone (410)", 401: "{url} needs a login (401)"}
_LOGIN = "put the credentials of the host into ~/.netrc, or set GITHUB_TOKEN or HF_TOKEN"
_ADDRESS = "check the address"
_MOVED = f"{_ADDRESS}; if it is of a locked model, hublock update NAME finds what its repository names by now"
_PRIVATE = f"{_ADDRESS}; for a release of a private repository set GITHUB_TOKEN"


def _read_head(response: Response) -> Answer:
    headers = response.headers
    start, total = 0, None
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if match:
            start, total = int(match[1]), None if match[3] == "*" else int(match[3])
    elif re.fullmatch(r"\d{1,18}", headers.get("Content-Length", "")):
        total = int(headers["Content-Length"])
    etag = headers.get("ETag", "")
    # a weak tag promises the same meaning, not the same bytes
    validator = headers.get("Last-Modified") if not etag or etag.startswith("W/") else etag
    ranges = response.status == 206 or headers.get("Accept-Ranges", "").strip().lower() == "bytes"
    return Answer(response=response, start=start, total=total, validator=validator, ranges=ranges)
