import pytest

from hublock.errors import TransferError
from hublock.net.retry import TRIES, patiently, retry_after, seconds

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
