"""Files of private GitHub releases, which their own address hides even from who sends a token.

This is the one use of GitHub's REST API (docs.github.com, "REST API endpoints for release assets"), and only with a
token: without one, sixty requests an hour would be shared by everybody behind the same address.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from urllib.parse import unquote

from hublock.core.progress import Progress
from hublock.errors import TransferError
from hublock.net.routes import Route, redact
from hublock.net.transport import NO_HEADERS, HttpTransport, Response
from hublock.settings import Settings

HOST, API = "github.com", "api.github.com"
LONGEST = 8 << 20
"""Bytes of the description of one release: at most 1,000 files, of 2 KB each."""
_ASSET = re.compile(rf"https://{re.escape(HOST)}/([^/?#]+/[^/?#]+)/releases/download/([^?#]+)/([^/?#]+)", re.IGNORECASE)


class Releases(HttpTransport):
    """HTTP that finds the files of private releases too, where a token for GitHub is known."""

    def __init__(self, settings: Settings, *, progress: Progress | None = None) -> None:
        """Use ``settings``; ``progress`` is told of mirrors that give no answer."""
        super().__init__(settings, progress=progress)
        token = settings.tokens.get(HOST)
        self._api = HttpTransport(replace(settings, tokens={API: token})) if token else None
        self._found: dict[str, str] = {}

    @contextmanager
    def breakable(self) -> Iterator[Callable[[], None]]:
        """See :meth:`HttpTransport.breakable`."""
        with super().breakable() as give_up, self._api.breakable() if self._api else nullcontext() as give_up_api:

            def give_up_both() -> None:
                give_up()
                if give_up_api is not None:
                    give_up_api()

            yield give_up_both

    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        route: int | Route | None = None,
    ) -> Response:
        """Ask as any transport does; where the last route to a file of a release answers 404, ask the API for it.

        Raises:
            TransferError: there was no answer, or asking is refused.
        """
        last = (route or 0) == len(self.routes(url)) - 1
        if self._api is None or not last or method not in ("GET", "HEAD") or not is_asset(url):
            return super().open(method, url, headers=headers, body=body, route=route)
        if url not in self._found:
            answer = super().open(method, url, headers=headers, route=route)
            if answer.status != 404:
                return answer
            try:
                asset = _find_asset(url, self._api)
            except BaseException:
                answer.close()
                raise
            if asset is None:
                return answer
            answer.close()
            self._found[url] = asset
        return self._api.open(method, self._found[url], headers={**headers, "Accept": "application/octet-stream"})


def is_asset(url: str) -> bool:
    """Say whether ``url`` is the address of a file of a GitHub release."""
    return _ASSET.fullmatch(url) is not None


def _find_asset(url: str, api: HttpTransport) -> str | None:
    """Return the address of the file in the API; None if the API does not show it either.

    Raises:
        TransferError: the API could not be reached, or refuses.
    """
    match = _ASSET.fullmatch(url)
    assert match is not None
    repo, tag, name = match.groups()
    with api.open(
        "GET", f"https://{API}/repos/{repo}/releases/tags/{tag}", headers={"Accept": "application/vnd.github+json"}
    ) as answer:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise TransferError(
                f"{API} does not say what the release of {redact(url)} holds (HTTP {answer.status})",
                hint="check that GITHUB_TOKEN is valid, or try later",
                lasting=answer.status == 401,
            )
        number = _numbers(answer.read(LONGEST)).get(unquote(name))
    # never an address that the answer holds: the token goes there
    return None if number is None else f"https://{API}/repos/{repo}/releases/assets/{number}"


def _numbers(described: bytes) -> dict[str, int]:
    """Read which files a release has, and under which number; nothing from an answer that is malformed."""
    try:
        return {str(asset["name"]): int(asset["id"]) for asset in json.loads(described)["assets"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
