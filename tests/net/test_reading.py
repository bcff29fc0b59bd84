import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hublock.errors import TransferError
from hublock.net.reading import FEWEST, MOST, QUICK, SLOW, Pace
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from tests.net.wire import Wire, ok


def test_more_is_asked_for_as_long_as_it_comes_quickly() -> None:
    pace = Pace()
    assert pace.size == FEWEST
    for _ in range(10):
        pace.took(QUICK / 2)
    assert pace.size == MOST
    pace.took((QUICK + SLOW) / 2)
    assert pace.size == MOST
    pace.took(2 * SLOW)
    assert pace.size == MOST // 2
    for _ in range(10):
        pace.took(2 * SLOW)
    assert pace.size == FEWEST


@pytest.fixture
def always_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pause of a busy machine pass for a slow line."""
    monkeypatch.setattr("hublock.net.reading.QUICK", 600.0)


def test_pieces_grow_on_a_quick_line_and_for_the_next_answer_too(always_quick: None) -> None:
    data = bytes(4 * MOST)
    with Wire(lambda head: iter([ok(data)])) as wire:
        transport = HttpTransport(Settings(cache=Path("unused")))
        sizes = []
        for _ in range(2):
            with transport.open("GET", wire.url) as response:
                sizes.append([len(piece) for piece in response.chunks(MOST)])
    assert sizes[0][:3] == [FEWEST, 2 * FEWEST, 4 * FEWEST]
    assert sizes[1][0] == MOST
    assert sum(sizes[0]) == sum(sizes[1]) == len(data)


def test_after_a_break_little_is_asked_for_again(always_quick: None) -> None:
    data, broken = bytes(4 * MOST), threading.Event()

    def answers(head: bytes) -> Iterator[bytes]:
        if broken.is_set():
            yield ok(data)
        else:
            yield ok(data[: 3 * MOST], length=len(data))

    with Wire(answers) as wire:
        transport = HttpTransport(Settings(cache=Path("unused")))
        with (
            transport.open("GET", wire.url) as response,
            pytest.raises(TransferError, match="ended 1048576 bytes early"),
        ):
            list(response.chunks(MOST))
        broken.set()
        with transport.open("GET", wire.url) as response:
            assert len(next(response.chunks())) == FEWEST


def test_what_drips_after_a_quick_beginning_is_given_up() -> None:
    def drips(head: bytes) -> Iterator[bytes]:
        yield ok(bytes(4 * FEWEST), length=100 * FEWEST)
        for _ in range(1000):
            wire.closing.wait(0.02)
            yield b"x"

    began = time.monotonic()
    with Wire(drips) as wire:
        transport = HttpTransport(Settings(cache=Path("unused")), idle_timeout=0.3)
        with (
            transport.open("GET", wire.url) as response,
            pytest.raises(TransferError, match=r"crawls: less than \d+ bytes in \d+ s"),
        ):
            list(response.chunks(MOST))
    assert time.monotonic() - began < 10
