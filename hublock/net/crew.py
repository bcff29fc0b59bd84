"""Many calls at once, by few threads at first: more while they leave the processor idle, as on a slow line."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

FEW = 2
"""How many calls are made at once from the beginning: where the line is fast, more threads only contend."""
LOOK, FULL = 0.05, 0.9
"""Every so many seconds there is one thread more, while so many processors are not busy."""

GRACE = 1.0
"""Seconds that Ctrl-C leaves the calls under way to end: who looks up a name, or connects, cannot be told to."""


def make_calls(calls: Sequence[Callable[[], T]], *, most: int, on_failure: Callable[[], None]) -> list[T]:
    """Make ``calls``, at most ``most`` at once, and return what they return.

    After the first failure no call begins, and ``on_failure`` may end those under way.

    Raises:
        BaseException: the first failure, once all that had begun have ended; if it is none but an interruption, at
            the latest :data:`GRACE` seconds later.
    """
    pool = ThreadPoolExecutor(most, thread_name_prefix="hublock-file")
    left = iter(list(enumerate(calls)))
    got: dict[int, T] = {}
    crew: set[Future[None]] = set()

    def work() -> None:
        for number, call in left:
            got[number] = call()

    try:
        _see_through(crew, lambda: pool.submit(work), min(most, len(calls)))
    except BaseException as failure:
        # nobody finds another call
        list(left)
        on_failure()
        wait(crew, None if isinstance(failure, Exception) else GRACE)
        raise
    finally:
        pool.shutdown(wait=False)
    return [got[number] for number in range(len(calls))]


class Slack:
    """Whether this process leaves a processor idle, so that one thread more would pay."""

    def __init__(self) -> None:
        self._began, self._used = time.monotonic(), time.process_time()

    def found(self) -> bool:
        """Say whether it did, at least :data:`LOOK` seconds long and since this was asked last."""
        now, used = time.monotonic(), time.process_time()
        if now - self._began < LOOK:
            return False
        idle = used - self._used < FULL * (now - self._began)
        self._began, self._used = now, used
        return idle


def _see_through(crew: set[Future[None]], hire: Callable[[], Future[None]], most: int) -> None:
    """Wait until all of ``crew`` are done, the first failure excepted; hire more while the processor is idle."""
    slack = Slack()
    for _ in range(min(FEW, most)):
        crew.add(hire())
    while True:
        done, busy = wait(crew, timeout=LOOK if len(crew) < most else None, return_when=FIRST_EXCEPTION)
        for worker in done:
            worker.result()
        if not busy:
            return
        if len(crew) < most and slack.found():
            crew.add(hire())
