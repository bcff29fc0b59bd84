"""HTTP libraries inside a scope: urllib, requests and urllib3, answered without a connection.

Exchanged at the narrowest place that every way into the library passes: ``OpenerDirector.open`` (``urlopen``,
``urlretrieve``, own openers), ``HTTPAdapter.send`` (sessions), ``PoolManager.urlopen``. Other libraries meet the guard.
"""

import copyreg
import io
import json
import os
import urllib.request
from dataclasses import dataclass
from functools import cache
from http.client import HTTPMessage, HTTPResponse, responses
from pathlib import Path
from types import ModuleType
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from hublock.errors import UnlockedDownload
from hublock.runtime.strict.arrivals import when_imported
from hublock.runtime.strict.dispatching import dispatching
from hublock.runtime.strict.refusals import origin
from hublock.runtime.strict.scope import Scope, outside
from hublock.runtime.strict.swap import Function, swap


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An HTTP answer that no server gave."""

    status: int
    headers: dict[str, str]
    body: IO[bytes]


def install() -> None:
    """Exchange what is imported already, and the rest when it arrives."""
    swap(urllib.request.OpenerDirector.open, dispatching(_urllib_open))
    when_imported("requests.adapters", _swap_requests)
    when_imported("urllib3.poolmanager", _swap_urllib3)


def _swap_requests(module: ModuleType) -> None:
    swap(module.HTTPAdapter.send, dispatching(_requests_send))


def _swap_urllib3(module: ModuleType) -> None:
    swap(module.PoolManager.urlopen, dispatching(_urllib3_urlopen))


def answer(scope: Scope, method: str, url: str) -> Answer:
    """Answer GET and HEAD: a small metadata answer, else the file itself.

    Raises:
        UnlockedDownload: it is neither, or the method would change something elsewhere.
    """
    url = urlsplit(url)._replace(fragment="").geturl()  # a fragment is never sent
    if method not in ("GET", "HEAD"):
        raise scope.refuse(origin(url), f"sends {method} {url}, which no lock can answer")
    reply = scope.ask(origin(url), lambda answers: answers.reply(method, url))
    if reply is not None:
        status, body = reply
        return Answer(status=status, headers=_headers(len(body), _kind(body)), body=io.BytesIO(body))
    file = scope.fetch(url)
    body_file: IO[bytes] = io.BytesIO() if method == "HEAD" else file.path.open("rb")
    headers = _headers(file.size, "application/octet-stream")
    # gdown takes an answer for the file, and not for a page about it, by this header
    headers["Content-Disposition"] = f'attachment; filename="{Path(urlsplit(url).path).name or "download"}"'
    return Answer(status=200, headers=headers, body=body_file)


def _headers(size: int, kind: str) -> dict[str, str]:
    return {"Content-Length": str(size), "Content-Type": kind}


def _kind(body: bytes) -> str:
    try:
        json.loads(body)
    except ValueError:
        return "text/html; charset=utf-8"
    return "application/json; charset=utf-8"


def as_also(error: UnlockedDownload, kind: Any) -> UnlockedDownload:
    """Return a refusal that is also of ``kind``, which a library raises without a network: offline fallbacks work."""
    refusal: UnlockedDownload = _both(kind)(error.message, hint=error.hint)
    return refusal


@cache
def _both(kind: Any) -> Any:
    """Return the class of refusals that are also of ``kind``, an exception."""

    def again(error: UnlockedDownload) -> tuple[Any, ...]:
        return as_also, (UnlockedDownload(error.message, hint=error.hint), kind)

    return _Both("UnlockedDownload", (UnlockedDownload, kind), {"__reduce__": again})


class _Both(type):
    """A class that is made while a program runs, and made again in a process that is told of it, as by a worker."""


def _by_kind(both: Any) -> tuple[Any, ...]:
    return _both, both.__bases__[1:]


copyreg.pickle(_Both, _by_kind)


class _Opened(HTTPResponse):
    """What ``urlopen`` returns, with all that code may ask it for: ``length``, ``read1``, ``readinto``."""

    def __init__(self, answered: Answer, headers: HTTPMessage, request: urllib.request.Request) -> None:
        """Be a response whose head has been read."""
        connection: Any = _Connection(answered.body)
        super().__init__(connection, method=request.get_method())
        self.version, self.status, self.code = 11, answered.status, answered.status
        self.chunked, self.will_close = False, True
        self.length = 0 if request.get_method() == "HEAD" else int(headers["Content-Length"])
        self.headers, self.url = headers, request.full_url
        phrase: Any = responses.get(answered.status, "")
        # urlopen, too, gives msg another meaning than http.client
        self.reason = self.msg = phrase


class _Connection:
    """What a response reads from in place of a socket."""

    def __init__(self, body: IO[bytes]) -> None:
        self._body = body

    def makefile(self, _mode: str) -> IO[bytes]:
        return self._body


def _urllib_open(
    scope: Scope, original: Function, opener: Any, fullurl: Any, data: Any = None, *rest: Any, **options: Any
) -> Any:
    request = urllib.request.Request(fullurl, data) if isinstance(fullurl, str) else fullurl  # noqa: S310
    url, scheme = request.full_url, urlsplit(request.full_url).scheme.lower()
    if scheme == "data":
        return original(opener, fullurl, data, *rest, **options)
    if scheme == "file":
        local_file(scope, url)
        return original(opener, fullurl, data, *rest, **options)
    if scheme not in ("http", "https"):
        raise scope.refuse(origin(url), f"opens {url}")
    try:
        answered = answer(scope, "POST" if data is not None else request.get_method(), url)
    except UnlockedDownload as error:
        raise as_also(error, URLError) from error
    headers = HTTPMessage()
    for name, value in answered.headers.items():
        headers[name] = value
    if answered.status >= 400:
        raise HTTPError(url, answered.status, responses.get(answered.status, ""), headers, answered.body)
    return _Opened(answered, headers, request)


def local_file(scope: Scope, url: str) -> Path:
    """Return the file that a ``file:`` URL names: it lies in the tree or in the private folders, or was given.

    Raises:
        UnlockedDownload: it lies anywhere else.
    """
    real = os.path.realpath(urllib.request.url2pathname(urlsplit(url).path))
    allowed = [repository.root for repository in scope.repositories] + [scope.folder, scope.private_hub]
    if real in scope.by_path or any(Path(real).is_relative_to(os.path.realpath(root)) for root in allowed):
        return Path(real)
    if os.path.isfile(real):  # noqa: PTH113 - any string
        with outside():
            handed_in = scope.answers.input(Path(real))
        if handed_in is not None:
            # not by its path: whoever may write there may write again
            scope.by_digest[handed_in.digest] = handed_in
            return Path(real)
    raise scope.refuse(f"file:{Path(real).name}", f"opens {url}, which is not in its tree")


def _requests_send(scope: Scope, _original: Function, adapter: Any, request: Any, *_rest: Any, **_options: Any) -> Any:
    import requests
    from urllib3.response import HTTPResponse

    try:
        answered = answer(scope, request.method, request.url)
    except UnlockedDownload as error:
        raise as_also(error, requests.exceptions.ConnectionError) from error
    raw = HTTPResponse(
        body=answered.body,
        headers=answered.headers,
        status=answered.status,
        reason=responses.get(answered.status, ""),
        preload_content=False,
        request_method=request.method,
    )
    return adapter.build_response(request, raw)


def _urllib3_urlopen(
    scope: Scope, _original: Function, _manager: Any, method: str, url: str, *_rest: Any, **options: Any
) -> Any:
    from urllib3.exceptions import HTTPError as AnyError
    from urllib3.response import HTTPResponse

    try:
        answered = answer(scope, method.upper(), url)
    except UnlockedDownload as error:
        raise as_also(error, AnyError) from error
    return HTTPResponse(
        body=answered.body,
        headers=answered.headers,
        status=answered.status,
        reason=responses.get(answered.status, ""),
        preload_content=options.get("preload_content", True),
        request_method=method,
        request_url=url,
    )
