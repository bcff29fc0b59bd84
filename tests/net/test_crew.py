import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from hublock.net.crew import FEW, make_calls
from hublock.net.stopping import Stop
from hublock.net.transport import HttpTransport
from hublock.settings import Settings


def test_what_calls_return_comes_in_their_order() -> None:
    def call(number: int) -> int:
        time.sleep(0.01 * (number % 3))
        return number

    assert make_calls([partial(call, number) for number in range(20)], most=5, on_failure=pytest.fail) == [*range(20)]
    assert make_calls([], most=5, on_failure=pytest.fail) == []


def test_calls_that_leave_the_processor_idle_are_all_made_at_once() -> None:
    # which opens only if all wait at it together
    gate = threading.Barrier(8, timeout=30)
    numbers = make_calls([gate.wait for _ in range(16)], most=8, on_failure=pytest.fail)
    assert sorted(numbers) == sorted([*range(8), *range(8)])


def test_no_more_calls_than_allowed_are_made_at_once() -> None:
    inside, most = 0, 0
    mutex = threading.Lock()

    def call() -> None:
        nonlocal inside, most
        with mutex:
            inside += 1
            most = max(most, inside)
        time.sleep(0.1)
        with mutex:
            inside -= 1

    make_calls([call] * 24, most=FEW + 2, on_failure=pytest.fail)
    assert most == FEW + 2


def test_after_a_failure_no_call_begins_and_those_under_way_may_be_ended() -> None:
    failed, begun = threading.Event(), []

    def wait(number: int) -> None:
        begun.append(number)
        assert failed.wait(30)

    def fail() -> None:
        raise OSError("the first")

    calls: list[Callable[[], None]] = [partial(wait, 0), fail, *(partial(wait, number) for number in range(1, 50))]
    with pytest.raises(OSError, match="the first"):
        make_calls(calls, most=FEW, on_failure=failed.set)
    assert failed.is_set()
    assert len(begun) < FEW + 1


def test_who_has_left_is_not_given_up_any_more() -> None:
    stop, inside, left, late = Stop(), threading.Event(), threading.Event(), []

    class Slow(HttpTransport):
        @contextmanager
        def breakable(self) -> Iterator[Callable[[], None]]:
            yield lambda: late.append(left.wait(0.1))
            left.set()

    def transfer() -> None:
        with stop.ending(Slow(Settings(cache=Path("unused")))):
            inside.set()
            stop.sleep(30)

    thread = threading.Thread(target=transfer)
    thread.start()
    assert inside.wait(30)
    stop.set()
    thread.join(30)
    assert left.is_set()
    assert late == [False]
