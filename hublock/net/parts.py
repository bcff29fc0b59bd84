"""One large file over several connections: each part is written to its place, and the file is hashed in order behind.

Who hashes reads what was written, so that one thread's work is the line's and another's the hash; as long as other
files wait for a line, one thread does both, which takes less in all. No byte that came is ever written again: what was
hashed is what the file holds.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hublock.errors import TransferError
from hublock.net.crew import LOOK
from hublock.net.source import Answer, Changed, Source
from hublock.net.stopping import Stop
from hublock.store.disk import Writer, writing

WORTH_PARTS = 64 << 20
"""Bytes from which on a file is fetched in parts."""
SMALLEST, LARGEST = 16 << 20, 64 << 20
"""Bytes of a part: small enough that hashing keeps up, large enough that asking costs little."""
STEP = 1 << 20
"""Bytes that are worth waking who hashes for."""


def part_size(total: int, jobs: int) -> int:
    """Return how many bytes each part of a file of ``total`` bytes has."""
    wanted = total // (jobs * 4)
    return min(max(wanted - wanted % SMALLEST, SMALLEST), LARGEST)


@dataclass(kw_only=True, slots=True)
class Parts:
    """A file of ``total`` bytes in parts of ``size``, and which of them are there."""

    total: int
    size: int
    done: set[int] = field(default_factory=set)

    @property
    def count(self) -> int:
        """The number of parts."""
        return -(-self.total // self.size)

    def span(self, number: int) -> tuple[int, int]:
        """Return where the part begins and where it stops."""
        return number * self.size, min((number + 1) * self.size, self.total)

    def bytes_done(self) -> int:
        """Return how many bytes need not be fetched."""
        return sum(stop - start for start, stop in map(self.span, self.done))


class PartsDownload:
    """The parts of one file, fetched by as many threads as :meth:`work` is called in."""

    def __init__(
        self,
        source: Source,
        path: Path,
        plan: Parts,
        *,
        validator: str | None,
        ended: Stop,
        patiently: Callable[[Callable[[], bool]], bool],
        advance: Callable[[int], None],
    ) -> None:
        """Fetch what ``plan`` lacks into ``path``.

        ``ended`` is set once no part is wanted any more; ``patiently`` calls what it is given, again after a failure
        that may pass, and returns what that returns; ``advance`` counts bytes.
        """
        self.plan, self.ended = plan, ended
        self._source, self._path, self._validator = source, path, validator
        self._patiently, self._advance = patiently, advance
        self._waiting = [number for number in range(plan.count) if number not in plan.done]
        self._workers = 0
        self._is_crowded = False
        self._ahead = 0
        """How many parts are left to who reads an answer that brings them all."""
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._failure: BaseException | None = None
        self._engine, self._hashed = hashlib.sha256(), 0
        self._pieces: _Pieces | None = None
        self._came = {number: plan.span(number)[number in plan.done] for number in range(plan.count)}
        """How far each part has come: where in the file the next byte of it goes."""

    @property
    def wants_help(self) -> bool:
        """Whether some part is not being fetched yet, and since the last one that came nobody left with little."""
        return len(self._waiting) > self._ahead and self._failure is None and not self._is_crowded

    def stop(self, failure: BaseException) -> None:
        """Make every worker end soon, and :meth:`digest` raise ``failure``."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()
        self.ended.set()

    def begin(self, first: Answer, alone: Callable[[], bool]) -> Answer | None:
        """Fetch and hash what ``first``, an answer that brings the whole file, brings as long as this is ``alone``.

        Return the answer for :meth:`work` to go on with; None if it broke off.
        """
        self._pieces = _Pieces(first.response.chunks())
        while self._waiting and alone():
            number = self._waiting.pop(0)
            try:
                self._write(self._pieces, number, self._engine)
            except TransferError:
                self._give_back(number)
                return None
        return first

    def work(self, first: Answer | None = None) -> None:
        """Fetch parts until none is left; failures reach :meth:`digest`.

        Who fails while others are at work leaves them the part; the last one tries again.
        ``first`` is an answer that brings the whole file: it is read as far as nobody else fetches what comes next.
        """
        with self._changed:
            self._workers += 1
        try:
            if first is not None:
                # what it does not bring is asked for below
                self._ahead = 1
                with suppress(TransferError), first.response:
                    self._read_on(first)
                self._ahead = 0
            while (number := self._next()) is not None and self._patiently(partial(self._bring, number)):
                pass
        except BaseException as error:
            self.stop(error)
            if not isinstance(error, Exception):
                raise

    def digest(self, on_look: Callable[[], None]) -> str:
        """Hash the file in order while it comes, and return the hex digest.

        ``on_look`` is called with each part, and about every :data:`LOOK` seconds.

        Raises:
            Changed: the file changed meanwhile.
            TransferError: a part could not be fetched.
        """
        engine, buffer = self._engine.copy(), bytearray(STEP)
        with writing(self._path), self._path.open("rb", buffering=0) as file:
            file.seek(self._hashed)
            for number in range(self.plan.count):
                start, stop = self.plan.span(number)
                at = max(start, self._hashed)
                looked = -LOOK
                while at < stop:
                    if time.monotonic() - looked >= LOOK:
                        on_look()
                        looked = time.monotonic()
                    came = self._wait_for(number, min(at + STEP, stop))
                    hash_into(engine, file, came - at, buffer)
                    at = came
        return engine.hexdigest()

    def _wait_for(self, number: int, place: int) -> int:
        """Wait a moment for a part to come as far as ``place``, and return how far it came."""
        with self._changed:
            # with a limit, as only then Ctrl-C gets through everywhere
            self._changed.wait_for(lambda: self._failure or self._came[number] >= place, LOOK)
            if self._failure is not None:
                raise self._failure
            return self._came[number]

    def _next(self) -> int | None:
        """Take a part that nobody fetches; who finds none is done."""
        with self._changed:
            if len(self._waiting) > self._ahead and self._failure is None:
                return self._waiting.pop(self._ahead)
            self._workers -= 1
            return None

    def _bring(self, number: int) -> bool:
        """Try to fetch a part; False if that failed and the others go on with it."""
        came = self._came[number]
        try:
            self._fetch(number)
        except TransferError:
            if self._leave(number, came):
                return False
            raise
        return True

    def _leave(self, number: int, came: int) -> bool:
        """Give a part back and go, if others are at work: a host may serve few at once, or nobody a second time."""
        with self._changed:
            if self._workers == 1:
                return False
            self._workers -= 1
            self._is_crowded = self._is_crowded or self._came[number] - came < STEP
            self._give_back(number)
            return True

    def _give_back(self, number: int) -> None:
        with self._changed:
            self._waiting = sorted([*self._waiting, number])

    def _read_on(self, answer: Answer) -> None:
        pieces = self._pieces or _Pieces(answer.response.chunks())
        # one after the other from where the answer is: who helps may have taken the first already
        for number in range(self._hashed // self.plan.size, self.plan.count):
            with self._changed:
                if number not in self._waiting:
                    return
                self._waiting.remove(number)
            try:
                # what somebody brought who left
                for _ in pieces.take(self._came[number] - self.plan.span(number)[0]):
                    self.ended.check()
                self._write(pieces, number)
            except TransferError:
                self._give_back(number)
                raise

    def _fetch(self, number: int) -> None:
        self.ended.check()
        answer = self._source.ask(self._came[number], self.plan.span(number)[1], self._validator)
        with answer.response:
            if answer.response.status != 206:
                raise Changed("the host sends the whole file where a part was asked for")
            if answer.total not in (None, self.plan.total):
                raise Changed("it has another size than before")
            self._write(_Pieces(answer.response.chunks()), number)

    def _write(self, pieces: "_Pieces", number: int, engine: Any = None) -> None:
        """Write what is missing of a part, and hash it if there is an ``engine``."""
        at, stop = self._came[number], self.plan.span(number)[1]
        with writing(self._path), self._path.open("r+b", buffering=0) as file:
            # the system lets one write to a file at a time, and those who wait would burn the processor
            writer = Writer(file, at, alone=self._writing)
            for piece in pieces.take(stop - at):
                self.ended.check()
                writer.write(piece)
                at += len(piece)
                if engine is not None:
                    engine.update(piece)
                    self._hashed = at
                self._advance(len(piece))
                with self._changed:
                    self._came[number] = at
                    self._changed.notify_all()
            writer.start_sync()
        if at != stop:
            raise Changed("a part is shorter than it was announced")
        with self._changed:
            self.plan.done.add(number)
            self._is_crowded = False
            self._changed.notify_all()


class _Pieces:
    """A body that is taken part by part."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def take(self, count: int) -> Iterator[memoryview]:
        """Give the next ``count`` bytes, fewer if the body ends before."""
        while count and (piece := self._rest or memoryview(next(self._chunks, b""))):
            self._rest, piece = piece[count:], piece[:count]
            count -= len(piece)
            yield piece


def hash_into(engine: Any, file: Any, count: int, buffer: bytearray) -> None:
    """Hash the next ``count`` bytes of an unbuffered file, by way of ``buffer``."""
    view = memoryview(buffer)
    while count and (came := file.readinto(view[:count])):
        engine.update(view[:came])
        count -= came
