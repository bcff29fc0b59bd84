"""When to ask again, and how long to wait before."""

import email.utils
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from hublock.errors import TransferError
from hublock.net.routes import Route
from hublock.net.transport import NO_HEADERS, HttpTransport, Response

T = TypeVar("T")

TRIES = 5
"""How often the same request is made without any progress."""
MIRROR_TRIES = 2
"""How often it is made to a mirror, beyond which there is another to ask."""
LATER = "run the same command again later"
"""What to do where a host is only busy."""
SHORT_WAIT = 10.0
"""Seconds; a question is not put again to a host that asks for more, as its answer may be one of many."""
LONGEST_WAIT = 60.0
"""Seconds; a host that asks for more is asked again anyway."""
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""Statuses that may be another a moment later."""


def ask(
    transport: HttpTransport,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    body: bytes | None = None,
    route: int | Route | None = None,
) -> Response:
    """Ask as :meth:`HttpTransport.open` does, and once more of a host that is busy, but says that not for long.

    A host that is still busy after it was waited for is not waited for again (see :meth:`HttpTransport.wait`).

    Raises:
        TransferError: there was no answer, or asking is refused.
    """
    response = transport.open(method, url, headers=headers, body=body, route=route)
    wait = retry_after(response.headers, time.time())
    if response.status not in BUSY or wait is None or wait > SHORT_WAIT:
        return response
    try:
        waited = transport.wait(wait, response.way)
    except BaseException:
        response.close()
        raise
    if not waited:
        return response
    response.close()
    return transport.open(method, url, headers=headers, body=body, route=route)


def patiently(
    call: Callable[[], T],
    *,
    earned: Callable[[], bool],
    pause: Callable[[int, float | None], None],
    tries: int = TRIES,
    longest: float = math.inf,
) -> T:
    """Call ``call`` again after failures that may pass, and return what it returns.

    ``earned`` says whether it got on since it was asked last, which begins a new row of tries; ``pause`` waits. Who
    asks for more than ``longest`` seconds is not waited for.

    Raises:
        TransferError: the failure lasts for longer, or came ``tries`` times in a row.
    """
    failures = 0
    while True:
        try:
            return call()
        except TransferError as error:
            failures = 1 if earned() else failures + 1
            if error.lasting or (error.wait or 0) > longest:
                raise
            if failures >= tries:
                raise TransferError(
                    f"{error.message} (tried {tries} times)", hint=error.hint, wait=error.wait
                ) from error
            pause(failures, error.wait)


def seconds(failures: int, asked: float | None, random: Callable[[], float]) -> float:
    """Return the seconds to wait after so many ``failures`` in a row: what the host ``asked`` for, else ever longer.

    ``random`` gives numbers in [0, 1); it spreads the clients that failed together.
    """
    if asked is not None:
        return min(max(asked, 0.0), LONGEST_WAIT)
    return min(0.5 * 2.0 ** (failures - 1), LONGEST_WAIT) * (0.5 + random())


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds a host asks to wait: Retry-After (RFC 9110, 10.2.3), else GitHub's rate limit, else None.

    ``now`` is the time in seconds since the epoch.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    reset = headers.get("X-RateLimit-Reset", "").strip()
    if headers.get("X-RateLimit-Remaining", "").strip() == "0" and reset.isascii() and reset.isdigit():
        return max(0.0, float(reset[:12]) - now)
    return None
