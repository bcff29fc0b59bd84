import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hublock.errors import TransferError
from hublock.net.retry import TRIES, ask, patiently, retry_after, seconds
from hublock.net.routes import Route
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from tests.forge import Forge

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "2"}, 2),
        ({"Retry-After": "86400"}, 86400),
        ({"Retry-After": "9" * 400}, 999999999),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10),
        ({"Retry-After": "Tue, 14 Nov 2000 22:13:30 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "٣"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000030"}, 30),
        ({"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": "1700000030"}, None),
        ({}, None),
    ],
)
def test_reads_how_long_a_host_asks_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers, NOW) == wait


def test_waits_as_long_as_asked_up_to_a_minute() -> None:
    assert [seconds(1, asked, lambda: 0.5) for asked in (0.0, 2.0, 86400.0, -5.0)] == [0.0, 2.0, 60.0, 0.0]


def test_waits_ever_longer_and_never_in_step_with_others() -> None:
    assert [seconds(failures, None, lambda: 0.5) for failures in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert (seconds(2, None, lambda: 0.0), seconds(2, None, lambda: 0.75)) == (0.5, 1.25)
    assert seconds(50, None, lambda: 0.5) == 60.0


def run(failures: list[TransferError], *, earned: bool = False) -> tuple[str, list[tuple[int, float | None]]]:
    pauses: list[tuple[int, float | None]] = []

    def call() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    return patiently(call, earned=lambda: earned, pause=lambda *given: pauses.append(given)), pauses


def test_tries_again_after_failures_that_may_pass() -> None:
    assert run([TransferError("a"), TransferError("b", wait=7)]) == ("done", [(1, None), (2, 7)])


def test_gives_up_after_five_tries_in_a_row() -> None:
    with pytest.raises(TransferError, match=r"broken \(tried 5 times\)"):
        run([TransferError("broken")] * TRIES)


def test_progress_earns_more_tries() -> None:
    assert run([TransferError("broken")] * 20, earned=True)[0] == "done"


def test_does_not_repeat_what_would_fail_again() -> None:
    with pytest.raises(TransferError, match="gone"):
        run([TransferError("gone", lasting=True), TransferError("never seen")])


def test_a_busy_host_is_waited_for_once_however_many_files_it_has(forge: Forge) -> None:
    transport = HttpTransport(forge.settings())
    files = [
        forge.serve(f"https://example.org/{name}", status=503, headers={"Retry-After": "0"}) for name in ("a", "b", "c")
    ]
    for name in ("a", "b", "c"):
        with ask(transport, "GET", f"https://example.org/{name}") as answer:
            assert answer.status == 503
    assert [file.hits for file in files] == [2, 1, 1]


def test_threads_wait_for_a_host_together() -> None:
    transport, way = HttpTransport(Settings(cache=Path("unused"))), Route(url="https://example.org/a")
    together = threading.Barrier(3)

    def wait() -> bool:
        together.wait()
        return transport.wait(0.3, way)

    with ThreadPoolExecutor(3) as pool:
        assert all(call.result() for call in [pool.submit(wait) for _ in range(3)])
    assert transport.wait(30, way) is False
    assert transport.wait(0, Route(url="https://example.com/a"))
