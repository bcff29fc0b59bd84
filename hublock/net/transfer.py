"""One file from one source into one partial file, through every failure that may pass."""

import hashlib
import math
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from hublock.core.digest import Digest
from hublock.core.progress import Progress, Task
from hublock.errors import DigestMismatch, StoreError, TransferError
from hublock.net.crew import Slack
from hublock.net.parts import WORTH_PARTS, Parts, PartsDownload, hash_into, part_size
from hublock.net.reading import MOST
from hublock.net.retry import SHORT_WAIT, TRIES, patiently, seconds
from hublock.net.routes import redact
from hublock.net.source import Answer, Changed, Source
from hublock.net.stopping import Stop
from hublock.net.transport import CHUNK
from hublock.store.disk import Writer, writing
from hublock.store.store import Incoming

EARNED = 1 << 20
"""Bytes after which a broken line has earned another row of tries."""
WORTH_FACTS = 4 << 20
"""Bytes from which on it pays to note how a broken-off file can be resumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file to fetch."""

    url: str
    digest: Digest | None = None
    """What it must hash to; None when that is to be learnt."""
    size: int | None = None
    """What it must weigh, in bytes."""


class Line:
    """What all transfers of a downloader share."""

    def __init__(self, *, jobs: int, progress: Progress, sleep: Callable[[float], object] | None) -> None:
        """Allow ``jobs`` connections at once."""
        self.jobs = jobs
        self.progress = progress
        self.sleep = sleep
        self.connections = threading.BoundedSemaphore(jobs)
        self.workers = ThreadPoolExecutor(jobs, thread_name_prefix="hublock-part")
        self.waiting: set[Wanted] = set()
        """Files without a connection; they come before more connections for a file that has one."""
        self._patient: dict[str, object] = {}

    def tell_of_wait(self, seconds: float, host: str) -> None:
        """Say that a host makes us wait, once for all files that it has."""
        # in one step, as several threads may be told at once
        if self._patient.setdefault(host, mine := object()) is mine:
            self.progress.say(f"waiting {seconds:.0f} s, as {host} asks")


class Transfer:
    """Fetches one file from one source; used once."""

    def __init__(
        self,
        wanted: Wanted,
        source: Source,
        incoming: Incoming,
        *,
        stop: Stop,
        line: Line,
        tries: int = TRIES,
        longest: float = math.inf,
    ) -> None:
        """Fetch ``wanted`` from ``source`` into ``incoming``.

        Until told to ``stop``, failed ``tries`` times, or asked to wait more than ``longest`` seconds.
        """
        self._wanted, self._source, self._incoming = wanted, source, incoming
        self._stop, self._line = stop, line
        self._patiently = partial(patiently, earned=self._earned, tries=tries, longest=longest)
        self._task = Task()
        self._counted = 0
        self._farthest = 0
        self._resumed = False
        self._whole = False
        self._ours = False
        self._html = False

    def run(self) -> tuple[Digest, int]:
        """Fetch the file and return its digest and size; it lies in the partial file then, not yet synced.

        Raises:
            DigestMismatch: the source serves other bytes than wanted.
            TransferError: it does not serve the file.
            StoreError: the file cannot be written.
        """
        wanted = self._wanted
        label = urlsplit(wanted.url).path.rpartition("/")[2] or redact(wanted.url)
        with self._line.progress.task(label, wanted.size) as self._task, self._stop.ending(self._source.transport):
            reason = ""
            for _ in range(TRIES):
                try:
                    return self._patiently(self._attempt, pause=self._pause)
                except Changed as change:
                    reason = f": {change}"
                    self._restart()
                except DigestMismatch as error:
                    reason = f": {error.message}"
                    # bytes of two versions, or damaged ones of an earlier attempt: whole from one hand decides
                    if not self._resumed:
                        # all of them wrong: nobody shall go on from here
                        self._incoming.clear()
                        raise
                    self._restart()
        raise TransferError(f"{redact(wanted.url)} changes while it is fetched (tried {TRIES} times){reason}")

    def _attempt(self) -> tuple[Digest, int]:
        self._stop.check()
        at, facts = self._resumable()
        validator = facts.get("validator")
        known = validator if isinstance(validator, str) and facts.get("route") == self._source.address else None
        if (plan := _plan(facts)) is not None:
            self._task.grow(plan.total)
            return self._in_parts(plan, known, None)
        answer = self._source.ask(at, None, known)
        with answer.response:
            self._check_head(answer, facts)
            if answer.start != at:
                self._restart()
            if self._worth_parts(answer):
                return self._in_parts(
                    Parts(total=answer.total or 0, size=part_size(answer.total or 0, self._line.jobs)),
                    answer.validator,
                    answer,
                )
            if answer.total is None or answer.total >= WORTH_FACTS:
                self._note(answer.total, answer.validator)
            return self._stream(answer)

    def _resumable(self) -> tuple[int, Mapping[str, object]]:
        """Return how many bytes are at hand and what is known of them; unusable ones are dropped."""
        facts = self._incoming.facts
        size = self._incoming.size
        usable = bool(facts) and size > 0 and self._wanted.size in (None, facts.get("total"))
        if self._wanted.digest is None:
            # no digest will tell later whether these bytes are right: same host, same version, and known to be synced
            alike = (facts.get("url"), facts.get("route")) == (self._wanted.url, self._source.address)
            sure = facts.get("validator") and alike
            usable = usable and bool(sure) and (self._ours or facts.get("synced") is True)
        if not usable:
            if size:
                self._incoming.clear()
            self._count_to(0)
            return 0, {}
        self._resumed = True
        self._count_to(size if "done" not in facts else 0)
        return size, facts

    def _check_head(self, answer: Answer, facts: Mapping[str, object]) -> None:
        """Judge an answer before its body is read."""
        wanted = self._wanted
        self._html = answer.is_html
        if answer.total is None:
            return
        if wanted.size not in (None, answer.total):
            raise DigestMismatch(
                f"{redact(wanted.url)} serves {answer.total} bytes{self._page()}, "
                f"not the {wanted.size} that are locked",
                hint=_TRUST,
            )
        if answer.start and facts.get("total") not in (None, answer.total):
            raise Changed("it has another size than before")
        self._task.grow(answer.total)
        self._check_room(answer.total - answer.start)

    def _check_room(self, needed: int) -> None:
        folder = self._incoming.path.parent
        with writing(folder):
            disk = shutil.disk_usage(folder)
        # one that does not say how large it is (ramfs, tmpfs without a limit) says that nothing is free
        if disk.total and disk.free < needed:
            raise StoreError(
                f"{redact(self._wanted.url)} needs {needed} bytes, {folder} has {disk.free} free",
                hint="free some space (`hublock cache prune`), or set HUBLOCK_CACHE_DIR to a larger disk",
            )

    def _stream(self, answer: Answer) -> tuple[Digest, int]:
        """Read the body of ``answer`` into the file, from where it starts to its end."""
        file, at = self._incoming.open(), answer.start
        with writing(self._incoming.path):
            engine = hashlib.sha256()
            file.seek(0)
            hash_into(engine, file, at, bytearray(MOST if at else 0))
            writer = Writer(file, at)
            # a small file in few pieces: each costs more than what it saves
            small = answer.total is not None and answer.total < WORTH_FACTS
            for piece in answer.response.chunks(MOST if small else CHUNK):
                self._stop.check()
                at += len(piece)
                self._check_length(at)
                writer.write(piece)
                engine.update(piece)
                self._advance(len(piece))
            # what an earlier, longer version left behind the end was not hashed
            file.truncate(at)
            writer.start_sync()
        wanted = self._wanted
        if at < (wanted.size or answer.total or 0):
            raise TransferError(f"{redact(wanted.url)} broke off: {at} of {wanted.size or answer.total} bytes came")
        return self._checked(engine.hexdigest()), at

    def _check_length(self, at: int) -> None:
        if self._wanted.size is not None and at > self._wanted.size:
            shown = redact(self._wanted.url) + self._page()
            raise DigestMismatch(f"{shown} serves more than the {self._wanted.size} locked bytes", hint=_TRUST)

    def _checked(self, digits: str) -> Digest:
        actual, wanted = Digest("sha256", digits), self._wanted
        if wanted.digest not in (None, actual):
            raise DigestMismatch(
                f"{redact(wanted.url)} serves bytes of {actual}{self._page()}, not of the locked {wanted.digest}",
                hint=_TRUST,
            )
        return actual

    def _page(self) -> str:
        return " (a web page)" if self._html else ""

    def _worth_parts(self, answer: Answer) -> bool:
        sure = answer.validator is not None or self._wanted.digest is not None
        whole = answer.start == 0 and answer.total is not None and answer.total >= WORTH_PARTS
        return not self._whole and self._line.jobs > 1 and answer.ranges and sure and whole

    def _in_parts(self, plan: Parts, validator: str | None, first: Answer | None) -> tuple[Digest, int]:
        incoming, line = self._incoming, self._line
        self._resumed = True
        with writing(incoming.path):
            incoming.open().truncate(plan.total)
        self._count_to(began := plan.bytes_done())
        ended = Stop()

        def again(call: Callable[[], bool]) -> bool:
            return self._patiently(call, pause=partial(self._pause, stop=ended))

        parts = PartsDownload(
            self._source,
            incoming.path,
            plan,
            validator=validator,
            ended=ended,
            patiently=again,
            advance=self._advance,
        )
        workers: list[Future[None]] = []
        slack = Slack()

        def others_wait() -> bool:
            self._stop.check()
            self._note(plan.total, validator, plan)
            return bool(line.waiting)

        def on_look() -> None:
            may_help = not others_wait() and parts.wants_help
            # more connections bring nothing while the processor is what the file waits for
            if may_help and slack.found() and line.connections.acquire(blocking=False):
                workers.append(line.workers.submit(self._help, parts))

        try:
            rest = parts.begin(first, others_wait) if first is not None else None
            workers.append(line.workers.submit(self._work, parts, rest))
            return self._checked(parts.digest(on_look)), plan.total
        except TransferError as error:
            # each part was asked for as often as it may be: again only if that brought some of them
            error.lasting = error.lasting or self._counted <= began
            raise
        finally:
            parts.stop(TransferError("the transfer was stopped", lasting=True))
            wait(workers)
            self._note(plan.total, validator, plan)

    def _work(self, parts: PartsDownload, first: Answer | None = None) -> None:
        with suppress(TransferError), parts.ended.ending(self._source.transport):
            parts.work(first)

    def _help(self, parts: PartsDownload) -> None:
        try:
            self._work(parts)
        finally:
            self._line.connections.release()

    def _note(self, total: int | None, validator: str | None, plan: Parts | None = None) -> None:
        self._ours = True
        facts: dict[str, object] = {
            "url": self._wanted.url,
            "route": self._source.address,
            "total": total,
            "validator": validator,
        }
        if plan is not None:
            facts |= {"part": plan.size, "done": sorted(plan.done)}
        self._incoming.note(facts)

    def _restart(self) -> None:
        self._incoming.clear()
        self._resumed = False
        self._whole = True
        self._count_to(0)

    def _advance(self, amount: int) -> None:
        self._counted += amount
        self._task.advance(amount)

    def _count_to(self, amount: int) -> None:
        self._task.advance(amount - self._counted)
        self._counted = amount

    def _earned(self) -> bool:
        # from where it came before: a host that gives no parts sends the same bytes each time
        earned = self._counted >= self._farthest + EARNED
        self._farthest = max(self._farthest, self._counted)
        return earned

    def _pause(self, failures: int, asked: float | None, *, stop: Stop | None = None) -> None:
        stop = stop or self._stop
        stop.check()
        wait = seconds(failures, asked, random.random)
        if wait > SHORT_WAIT:
            self._line.tell_of_wait(wait, urlsplit(self._source.address).hostname or "")
        (self._line.sleep or stop.sleep)(wait)
        stop.check()


def _plan(facts: Mapping[str, object]) -> Parts | None:
    """Read which parts of a file an earlier attempt has fetched."""
    total, size, done = facts.get("total"), facts.get("part"), facts.get("done")
    if not (isinstance(total, int) and isinstance(size, int) and isinstance(done, list) and size > 0):
        return None
    plan = Parts(total=total, size=size)
    plan.done = {number for number in done if isinstance(number, int) and 0 <= number < plan.count}
    return plan


_TRUST = "`hublock update NAME` shows and locks what is served now, should you trust it"
