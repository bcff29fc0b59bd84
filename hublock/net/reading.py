"""How answers are read: in ever larger pieces as long as they come quickly, and never for longer than a limit."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from urllib3 import BaseHTTPResponse

IDLES = 2
"""How many idle time-outs the head of an answer, or one read of its body, may take however steadily it drips."""

FEWEST, MOST = 1 << 16, 1 << 20
"""Bytes asked for in one read."""
QUICK, SLOW = 0.1, 1.0
"""Seconds; a read that takes less is followed by a larger one, one that takes more by a smaller one."""


class Pace:
    """How many bytes are asked for in one read, by how long the last ones took."""

    def __init__(self) -> None:
        """Begin with few, as a read that breaks off loses what had come."""
        self.slow_down()

    def slow_down(self) -> None:
        """Begin again with few."""
        self.size = FEWEST

    def took(self, seconds: float) -> None:
        """Note how long a read took: more bytes cost less each, as long as they come quickly."""
        if seconds < QUICK:
            self.size = min(2 * self.size, MOST)
        elif seconds > SLOW:
            self.size = max(self.size // 2, FEWEST)


class Body:
    """One answer, whose body is read in ever larger pieces as long as they come quickly."""

    def __init__(self, answer: "BaseHTTPResponse", pace: Pace, limits: "Limits") -> None:
        """Read ``answer``, each piece within ``limits``."""
        self.answer = answer
        self._pace, self._limits = pace, limits

    def read(self, most: int, *, at_once: bool = False) -> bytes:
        """Return the next bytes, at most ``most``, not decoded; none at the end. ``at_once`` is content with any.

        Raises:
            TimeoutError: they drip.
        """
        asked, began = min(self._pace.size, most), time.monotonic()
        try:
            with self._limits.watch(vars(self.answer)["line"]):
                read: Callable[..., bytes] = self.answer.read1 if at_once else self.answer.read
                data = read(asked, decode_content=False)
        except BaseException as error:
            self._pace.slow_down()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"less than {asked} bytes in {time.monotonic() - began:.0f} s") from None
            raise
        self._pace.took(time.monotonic() - began)
        return data


class Limits:
    """Breaks connections whose answer takes too long; one thread watches all of them."""

    def __init__(self, seconds: float) -> None:
        """Allow every head and every read so many seconds."""
        self._seconds = seconds
        self._changed = threading.Condition()
        self._waiting: dict[object, tuple[float, socket.socket, int]] = {}
        self._given_up: set[int] = set()
        self._watching = False

    @contextmanager
    def breakable(self) -> Iterator[Callable[[], None]]:
        """Give a function with which another thread ends the waiting of this one in the block, now and from then on."""
        me = threading.get_ident()
        try:
            yield lambda: self._give_up(me)
        finally:
            with self._changed:
                self._given_up.discard(me)

    def _give_up(self, thread: int) -> None:
        with self._changed:
            self._given_up.add(thread)
            self._changed.notify_all()
            for token in [token for token, (_, _, waiting) in self._waiting.items() if waiting == thread]:
                _break(self._waiting.pop(token)[1])

    def wait(self, seconds: float) -> None:
        """Wait so many seconds.

        Raises:
            TimeoutError: this thread's waiting was ended.
        """
        me = threading.get_ident()
        with self._changed:
            if self._changed.wait_for(lambda: me in self._given_up, seconds):
                raise TimeoutError

    @contextmanager
    def watch(self, line: "socket.socket | None") -> Iterator[None]:
        """Break ``line`` if the block takes too long.

        Raises:
            TimeoutError: it did, or is not wanted any more.
        """
        token, me = object(), threading.get_ident()
        with self._changed:
            if me in self._given_up:
                raise TimeoutError
            if line is not None:
                self._waiting[token] = time.monotonic() + self._seconds, line, me
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._work, name="hublock-limits", daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                in_time = line is None or self._waiting.pop(token, None) is not None
            # also without an error: a head that breaks off amid its fields passes for a whole one
            if not in_time:
                raise TimeoutError

    def _work(self) -> None:
        with self._changed:
            while self._waiting:
                now = time.monotonic()
                for token in [token for token, (end, _, _) in self._waiting.items() if end <= now]:
                    _break(self._waiting.pop(token)[1])
                # it need not be exact, and waking it for every request would cost more than a small file
                self._changed.wait(self._seconds / 8)
            self._watching = False


def _break(line: "socket.socket") -> None:
    import socket

    # not by the line's own method: that of TLS pulls the layer away from under a reader in another thread
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)
