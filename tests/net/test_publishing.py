import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from hublock.errors import StoreError
from hublock.net import publishing
from hublock.net.publishing import Finished, Publisher
from hublock.store.store import Store
from tests.net.bench import sha256

Calls = list[tuple[str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """What is synced and named, each file by its bytes."""
    seen: Calls = []
    fsync, replace = os.fsync, os.replace

    def noted(handle: int) -> None:
        if (data := Path(f"/proc/self/fd/{handle}").resolve()).is_file():
            seen.append(("sync", data.read_text()))
        fsync(handle)

    def named(source: Path, target: Path) -> None:
        replace(source, target)
        seen.append(("name", Path(target).read_text()))

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", named)
    yield seen


def finish(store: Store, word: str) -> Finished:
    held = ExitStack()
    incoming = held.enter_context(store.incoming(word))
    incoming.open().write(word.encode())
    return Finished(url=f"https://a.org/{word}", digest=sha256(word.encode()), incoming=incoming, held=held)


def at_first_sync(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> None:
    """Have ``call`` called before the first file is synced."""
    fsync, left = os.fsync, [call]

    def first(handle: int) -> None:
        if left:
            left.pop()()
        fsync(handle)

    monkeypatch.setattr(os, "fsync", first)


def is_free(store: Store, word: str) -> bool:
    def busy() -> None:
        raise TimeoutError

    try:
        with store.incoming(word, on_wait=busy):
            return True
    except TimeoutError:
        return False


def test_what_finishes_meanwhile_is_named_together_by_who_is_at_it(
    store: Store, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (finish(store, word) for word in ("first", "second", "third"))
    with Publisher(store) as publisher:
        # another thread's files come while this one's is being synced: it need not wait for them
        def publish() -> None:
            for item in (second, third):
                publisher.publish(item)

        others = threading.Thread(target=publish)

        def come() -> None:
            others.start()
            others.join(30)

        at_first_sync(monkeypatch, come)
        calls.clear()
        publisher.publish(first)
        assert not others.is_alive()
        together = [("sync", "second"), ("sync", "third"), ("name", "second"), ("name", "third")]
        assert calls == [("sync", "first"), ("name", "first"), *together]
        assert all(is_free(store, word) for word in ("first", "second", "third"))
    for word in ("first", "second", "third"):
        store.check_blob(sha256(word.encode()))


def test_a_file_that_cannot_be_written_is_named_and_holds_up_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (finish(store, word) for word in ("first", "second", "third"))

    def fail() -> None:
        publisher.publish(second)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Publisher(store) as publisher:
        at_first_sync(monkeypatch, fail)
        with pytest.raises(StoreError, match=r"https://a\.org/first: .*No space left on device") as raised:
            publisher.publish(first)
        assert "free some space" in str(raised.value.hint)
        assert is_free(store, "first")
        # and what came meanwhile is not forgotten
        publisher.publish(third)
    assert store.blob(sha256(b"first")) is None
    for word in ("second", "third"):
        store.check_blob(sha256(word.encode()))
    assert list((store.root / "v1" / "partial").iterdir()) == []


def test_what_comes_while_the_last_one_fails_is_let_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = finish(store, "first"), finish(store, "second")

    def fail() -> None:
        publisher.publish(second)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Publisher(store) as publisher:
        at_first_sync(monkeypatch, fail)
        with pytest.raises(StoreError, match="Input/output error"):
            publisher.publish(first)
        assert not is_free(store, "second")
    assert is_free(store, "second")
    assert list((store.root / "v1" / "partial").iterdir()) == []


def test_a_disk_that_is_slower_than_the_line_makes_the_line_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MOST", 2)
    items = [finish(store, word) for word in ("first", "second", "third", "fourth")]
    come = [threading.Event() for _ in items]

    def publish() -> None:
        for item, event in zip(items[1:], come[1:], strict=True):
            publisher.publish(item)
            event.set()

    def stall() -> None:
        others.start()
        assert come[2].wait(30)
        assert not come[3].wait(0.2)

    with Publisher(store) as publisher:
        others = threading.Thread(target=publish)
        at_first_sync(monkeypatch, stall)
        publisher.publish(items[0])
        others.join(30)
    for word in ("first", "second", "third", "fourth"):
        store.check_blob(sha256(word.encode()))


def test_one_that_cannot_be_let_go_keeps_no_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (finish(store, word) for word in ("first", "second", "third"))

    def fail() -> None:
        raise ValueError("cannot be let go")

    def lose() -> None:
        publisher.publish(second)
        publisher.publish(third)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    third.held.callback(fail)
    at_first_sync(monkeypatch, lose)
    with pytest.raises(ValueError, match="cannot be let go"), Publisher(store) as publisher, suppress(StoreError):
        publisher.publish(first)
    assert all(is_free(store, word) for word in ("second", "third"))
