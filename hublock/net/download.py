"""Files into the store: each fetched once, resumed where it broke off, hashed as it comes, named only when right."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from hublock.core.digest import Digest
from hublock.core.progress import Progress
from hublock.errors import DigestMismatch, OfflineError, StoreError, TransferError
from hublock.net.crew import make_calls
from hublock.net.publishing import Finished, Publisher, naming
from hublock.net.retry import MIRROR_TRIES, SHORT_WAIT, TRIES
from hublock.net.routes import Route, passed_over, redact
from hublock.net.source import Source
from hublock.net.stopping import Stop
from hublock.net.transfer import Line, Transfer, Wanted
from hublock.net.transport import HttpTransport
from hublock.store.store import Incoming, Store

__all__ = ["Downloader", "Fetched", "Wanted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A file in the store."""

    url: str
    """As it was wanted."""
    digest: Digest
    size: int
    path: Path
    came_from: Literal["store", "cache", "network"] = "network"
    """Whether it was there already, was copied from another program's cache, or was fetched."""


class Downloader:
    """Fetches files into a store; may be shared by threads."""

    def __init__(
        self,
        transport: HttpTransport,
        store: Store,
        *,
        progress: Progress | None = None,
        jobs: int = 8,
        adopt_from: Path | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """Use at most ``jobs`` connections at once.

        ``adopt_from`` is the folder of another program's downloads (torch.hub's ``checkpoints``): what it holds is
        copied instead of fetched where the digest matches. ``sleep`` is called with seconds between two tries.
        """
        self._transport = transport
        self._store = store
        self._progress = progress or Progress()
        self._jobs = jobs
        self._adopt_from = adopt_from
        self._line = Line(jobs=jobs, progress=self._progress, sleep=sleep)

    def fetch(self, wanted: Wanted) -> Fetched:
        """Return the file from the store, fetching it first if it is not there.

        Raises:
            DigestMismatch: every route serves other bytes than wanted.
            TransferError: no route serves it.
            StoreError: the store cannot be written.
        """
        with Publisher(self._store) as publisher:
            return self._fetch([wanted], Stop(), publisher)

    def fetch_all(self, wanted: Sequence[Wanted]) -> list[Fetched]:
        """Fetch several files at once, in the order given; the first failure ends the others.

        Of several addresses for one digest the next is asked where one fails.

        Raises:
            HublockError: as :meth:`fetch`.
        """
        stop = Stop()
        distinct: dict[Digest | str, list[Wanted]] = {}
        for item in wanted:
            distinct.setdefault(item.digest or item.url, []).append(item)
        first = {items[0] for items in distinct.values()}
        self._line.waiting.update(first)
        try:
            with Publisher(self._store) as publisher:
                calls = [partial(self._fetch, items, stop, publisher) for items in distinct.values()]
                got = dict(zip(distinct, make_calls(calls, most=self._jobs, on_failure=stop.set), strict=True))
        finally:
            self._line.waiting.difference_update(first)
        return [replace(got[item.digest or item.url], url=item.url) for item in wanted]

    def _fetch(self, addresses: Sequence[Wanted], stop: Stop, publisher: Publisher) -> Fetched:
        wanted = addresses[0]
        try:
            return self._stored(wanted) or self._brought(addresses, stop, publisher)
        finally:
            self._line.waiting.discard(wanted)

    def _brought(self, addresses: Sequence[Wanted], stop: Stop, publisher: Publisher) -> Fetched:
        """Fetch the file, unless it comes into the store meanwhile; ``publisher`` gives it its name."""
        wanted = addresses[0]
        waiting = self._progress.saying_once(f"waiting for another process that fetches {redact(wanted.url)}")

        def on_wait() -> None:
            stop.check()
            waiting()

        key = str(wanted.digest or wanted.url)
        with naming(wanted.url), ExitStack() as held:
            incoming = held.enter_context(self._store.incoming(key, on_wait=on_wait))
            found = self._stored(wanted, alone=True) or next(filter(None, map(self._adopted, addresses)), None)
            if found:
                incoming.clear()
                return found
            with self._line.connections:
                self._line.waiting.discard(wanted)
                digest, size = self._by_any_route(addresses, incoming, stop)
            if wanted.digest is None:
                self._mend(digest, size)
            finished = Finished(url=wanted.url, digest=digest, incoming=incoming, held=held.pop_all())
        publisher.publish(finished)
        return Fetched(url=wanted.url, digest=digest, size=size, path=self._store.layout.blob(digest))

    def _stored(self, wanted: Wanted, *, alone: bool = False) -> Fetched | None:
        """Look in the store; what is damaged there is removed, by who is ``alone``: another may just have mended it.

        Raises:
            DigestMismatch: what is there is whole, and has another size than wanted.
        """
        if wanted.digest is None or (path := self._store.blob(wanted.digest)) is None:
            return None
        try:
            # not its size: a wrong one in one lock must not cost others a whole file
            self._store.check_blob(wanted.digest, deep=False)
        except OfflineError:
            # who mends it has just removed it
            return None
        except DigestMismatch as error:
            if alone:
                self._progress.warn(f"{error.message}; fetching it again")
                self._store.discard(wanted.digest)
            return None
        size = path.stat().st_size
        if wanted.size not in (None, size):
            raise DigestMismatch(
                f"{redact(wanted.url)} is locked with {wanted.size} bytes, but {wanted.digest} has {size}",
                hint="git restore hub.lock, then hublock sync",
            )
        return Fetched(url=wanted.url, digest=wanted.digest, size=size, path=path, came_from="store")

    def _mend(self, digest: Digest, size: int) -> None:
        """Make room for a file whose digest was learnt only now, if what the store has under its name is damaged."""
        with self._store.alone(str(digest)):
            self._stored(Wanted(url="", digest=digest, size=size), alone=True)

    def _adopted(self, wanted: Wanted) -> Fetched | None:
        """Copy the file from the other cache, if it is there under its own name and has the right bytes."""
        if self._adopt_from is None or wanted.digest is None:
            return None
        # as torch.hub names it: not decoded, and without parameters (`;v=2`), which urlsplit would keep
        candidate = self._adopt_from / (urlparse(wanted.url).path.rpartition("/")[2] or "-")
        with suppress(OSError, DigestMismatch):
            size = candidate.stat().st_size
            if wanted.size not in (None, size):
                return None
            self._store.add_blob(candidate, wanted.digest)
            self._progress.note(f"took {candidate} instead of fetching {redact(wanted.url)}")
            path = self._store.blob(wanted.digest)
            if path is not None:
                return Fetched(url=wanted.url, digest=wanted.digest, size=size, path=path, came_from="cache")
        return None

    def _by_any_route(self, addresses: Sequence[Wanted], incoming: Incoming, stop: Stop) -> tuple[Digest, int]:
        ways = [way for wanted in dict.fromkeys(addresses) for way in self._ways(wanted)]
        lied: DigestMismatch | None = None
        for number, (wanted, route, source, tries) in enumerate(ways):
            # where there is another to ask, nobody waits for one that is busy for long
            longest = math.inf if number == len(ways) - 1 else SHORT_WAIT
            transfer = Transfer(wanted, source, incoming, stop=stop, line=self._line, tries=tries, longest=longest)
            try:
                return transfer.run()
            except (TransferError, DigestMismatch) as error:
                stop.check()
                if number == len(ways) - 1:
                    raise _graver(lied, error) from error
                if isinstance(error, DigestMismatch):
                    by = f"by mirror {redact(route.url)}, " if route.rule else ""
                    lied = DigestMismatch(f"{by}{error.message}", hint=error.hint)
                self._progress.warn(passed_over(route, ways[number + 1][1], error.message))
            except StoreError:
                # a full disk must not stay full of half a file
                incoming.clear()
                raise
        raise AssertionError("there is always a route")

    def _ways(self, wanted: Wanted) -> list[tuple[Wanted, Route, Source, int]]:
        """Return every route to one address, with how often it is tried."""
        routes = self._transport.routes(wanted.url)
        sources = [
            Source(transport=self._transport, url=wanted.url, route=number, by_validator=wanted.digest is None)
            for number in range(len(routes))
        ]
        tries = [*[MIRROR_TRIES] * (len(routes) - 1), TRIES]
        return [(wanted, *way) for way in zip(routes, sources, tries, strict=True)]


def _graver(lied: DigestMismatch | None, last: TransferError | DigestMismatch) -> TransferError | DigestMismatch:
    """Return what to report of who lied and of the last failure: wrong bytes do not pass by waiting."""
    if lied is None or isinstance(last, DigestMismatch):
        return last
    return DigestMismatch(f"{lied.message}; and {last.message}", hint=lied.hint)
