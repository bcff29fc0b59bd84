"""Whatever goes wrong on the line or the disk is told with the URL and the cause, and gets no name in the store.

The faults come from a server on loopback; what passes by itself is the matter of :mod:`tests.net.test_download`.
"""

import email.utils
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hublock.errors import DigestMismatch, HublockError, TransferError
from hublock.net.download import Wanted
from hublock.settings import Settings
from tests.forge import Served
from tests.net.bench import DATA, OTHER, URL, Bench, sha256, start, wanted
from tests.net.wire import Wire, ok


@dataclass(frozen=True)
class Fault:
    """What a host does at :data:`URL` every time, and what comes of it."""

    serve: dict[str, Any]
    cause: str
    """What the message says besides the URL."""
    kind: type[HublockError] = TransferError
    requests: int = 5
    learnt: str | None = None
    """The cause where no digest and size are known; None if it is the same, empty if there is no fault then."""


PAGE = {"Content-Type": "text/html; charset=utf-8"}
FAULTS = {
    # each try resumes, and brings another 100 bytes
    "truncation": Fault({"truncate": 100}, "the body ended 299500 bytes early"),
    "truncation to nothing": Fault({"truncate": 0}, "the body ended 300000 bytes early"),
    "truncation that no length tells": Fault(
        {"data": DATA[:-1], "chunked": True}, "broke off: 299999 of 300000 bytes came", learnt=""
    ),
    "a length too short": Fault(
        {"length": 299_999}, "serves 299999 bytes, not the 300000", DigestMismatch, requests=1, learnt=""
    ),
    "a length too long": Fault(
        {"length": 300_001},
        "serves 300001 bytes, not the 300000",
        DigestMismatch,
        requests=1,
        learnt="changes while it is fetched (tried 5 times): it has fewer bytes than before",
    ),
    "more than was locked": Fault(
        {"data": DATA + b"x", "chunked": True},
        "serves more than the 300000 locked bytes",
        DigestMismatch,
        requests=1,
        learnt="",
    ),
    "other bytes": Fault({"data": OTHER}, f"serves bytes of {sha256(OTHER)}", DigestMismatch, requests=1, learnt=""),
    "a stall": Fault({"stall": 100}, "no answer in time"),
    "a stall before the first byte": Fault({"stall": 0}, "no answer in time"),
    "no answer": Fault({"drop": True}, "the host hung up without an answer"),
    "429 and seconds": Fault(
        {"status": 429, "headers": {"Retry-After": "7"}}, "answers with status 429 and asks to wait 7 s"
    ),
    "503 and seconds": Fault(
        {"status": 503, "headers": {"Retry-After": "7"}}, "answers with status 503 and asks to wait 7 s"
    ),
    "503": Fault({"status": 503}, "answers with status 503 (tried 5 times)"),
    "404": Fault({"status": 404}, "does not exist (404)", requests=1),
    "a web page": Fault(
        {"data": b"<html>log in</html>", "headers": PAGE},
        "serves 19 bytes (a web page), not the 300000",
        DigestMismatch,
        requests=1,
        learnt="",
    ),
    "a web page of the right length": Fault(
        {"data": OTHER, "headers": PAGE},
        f"serves bytes of {sha256(OTHER)} (a web page), not of the locked",
        DigestMismatch,
        requests=1,
        learnt="",
    ),
    "gzip": Fault(
        {"headers": {"Content-Encoding": "gzip"}}, "in the encoding 'gzip', which nobody asked for", requests=1
    ),
    "a redirect to nowhere": Fault({"redirect_to": ""}, "redirects (302) to nowhere", requests=1),
    "a redirect to plain http": Fault({"redirect_to": "http://b.org/x"}, "http://b.org/x is plain http", requests=1),
    "a redirect loop": Fault({"redirect_to": URL}, "redirects more than 5 times", requests=6),
}


@pytest.mark.parametrize("known", [True, False], ids=["locked", "learnt"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_the_url_and_the_cause(bench: Bench, resumable: None, name: str, known: bool) -> None:
    fault = FAULTS[name]
    bench.forge.serve(URL, **{"data": DATA, **fault.serve})
    cause, kind = fault.cause, fault.kind
    if not known and fault.learnt is not None:
        cause, kind = fault.learnt, TransferError
    asked = wanted() if known else Wanted(url=URL)
    if not cause:
        # where nothing is locked yet, this is simply what the host serves
        assert bench.fetch(asked).size > 0
        return
    began = time.monotonic()
    # on a busy machine no answer is there at once
    said = bench.refuses(asked, kind, idle=0.1 if "stall" in name else 5.0)
    assert time.monotonic() - began < 10
    assert URL in said
    assert cause in said
    if kind is fault.kind:
        assert len(bench.forge.requests) == fault.requests
    assert names(bench) == []


def test_a_fault_behind_a_redirect_names_the_file_that_was_wanted(bench: Bench) -> None:
    bench.forge.asset(URL, DATA, truncate=0)
    said = bench.refuses(wanted(), TransferError)
    assert said.startswith(f"{URL}: https://objects.githubusercontent.com/net-1a2b3c4d.pth?… broke off")
    assert "the body ended 300000 bytes early" in said


def names(bench: Bench) -> list[Path]:
    """Return what has a name in the store."""
    return [path for path in bench.store.root.glob("v1/blobs/*/*/*") if path.is_file()]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_host_may_name_a_date(bench: Bench, status: int) -> None:
    def on_hit(served: Served) -> None:
        served.headers = {"Retry-After": email.utils.formatdate(time.time() + 30, usegmt=True)}

    bench.forge.serve(URL, DATA, status=status, on_hit=on_hit)
    said = bench.refuses(wanted(), TransferError)
    assert re.search(rf"{URL} answers with status {status} and asks to wait (29|30) s", said)
    assert all(28 < nap <= 30 for nap in bench.naps)
    assert len(bench.naps) == 4


def silent(wire: Wire) -> Iterator[bytes]:
    wire.closing.wait()
    yield b""


def drips(wire: Wire, before: bytes, drop: bytes) -> Iterator[bytes]:
    """Send ``drop`` for a while, often enough that no single read waits too long."""
    yield before
    for _ in range(150):
        wire.closing.wait(0.02)
        yield drop


ON_THE_WIRE: dict[str, tuple[Callable[[Wire], Iterable[bytes]], str]] = {
    "silence": (silent, "cannot be reached: no answer in time"),
    "a reset before the answer": (lambda _: [], "cannot be reached: Connection reset by peer"),
    "a reset amid the body": (lambda _: [ok(DATA[:1000], length=len(DATA))], "broke off: Connection reset by peer"),
    "no HTTP": (lambda _: [b"220 ftp.example.org ready\r\n\r\n"], "cannot be reached: the answer is no HTTP"),
    "a status line that drips": (lambda wire: drips(wire, b"", b"H"), "cannot be reached: no answer in time"),
    "headers that drip": (
        lambda wire: drips(wire, b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        "cannot be reached: no answer in time",
    ),
    "a body that drips": (lambda wire: drips(wire, ok(b"", length=len(DATA)), b"x"), "crawls: "),
    "chunks that drip": (
        lambda wire: drips(wire, ok(b"", "Transfer-Encoding: chunked", length=None), b"1\r\nx\r\n"),
        "crawls: ",
    ),
    "a chunk of negative size": (
        # which http.client takes to mean all that ever comes
        lambda wire: drips(wire, ok(b"", "Transfer-Encoding: chunked", length=None), b"-1\r\n" + DATA),
        "broke off: the body ended early",
    ),
}


@pytest.mark.parametrize("name", ON_THE_WIRE)
def test_a_fault_of_the_line_is_told_with_the_url_and_the_cause(bench: Bench, name: str) -> None:
    answer, cause = ON_THE_WIRE[name]
    began = time.monotonic()
    with Wire(lambda head: answer(wire), reset="reset" in name) as wire:
        asked = Wanted(url=wire.url + "net.pth", digest=sha256(DATA), size=len(DATA))
        # a body that comes in drops must not fall silent meanwhile
        said = bench.refuses(asked, TransferError, idle=0.3 if "crawls" in cause else 0.1)
        assert len(wire.heads) == 5
    assert f"{asked.url} {cause}" in said
    assert "(tried 5 times)" in said
    assert time.monotonic() - began < 20
    assert names(bench) == []


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("https://nowhere.invalid/x.pth", "cannot be reached: the name of the host is not known"),
        ("http://127.0.0.1:9/x.pth", "cannot be reached: Connection refused"),
    ],
)
def test_a_host_that_is_not_there_is_told_with_the_url_and_the_cause(bench: Bench, url: str, cause: str) -> None:
    nobody = Settings(cache=bench.store.root)
    said = bench.refuses(Wanted(url=url, digest=sha256(DATA)), TransferError, settings=nobody)
    assert f"{url} {cause} (tried 5 times)" in said


@pytest.mark.parametrize("lie", ["bytes 5-299999/300000", "bytes 100000-299999/400000", "bytes 0-299999/300000", ""])
def test_a_host_that_always_sends_other_ranges_than_asked_for_is_given_up(
    bench: Bench, resumable: None, lie: str
) -> None:
    def on_hit(served: Served) -> None:
        resumed = bool(bench.asked()[-1])
        served.truncate = None if resumed else 100_000
        served.headers = {"Content-Range": lie} if resumed else {}

    bench.forge.serve(URL, DATA, on_hit=on_hit)
    said = bench.refuses(wanted(), TransferError)
    assert f"{URL} changes while it is fetched (tried 5 times): " in said
    other = "the host sends other bytes than it was asked for"
    assert said.endswith("serves 400000 bytes, not the 300000 that are locked" if "/4" in lie else other)
    assert len(bench.forge.requests) == 10
    assert names(bench) == []


@pytest.mark.parametrize("begun", [False, True])
def test_a_part_that_does_not_say_where_the_file_ends_is_not_the_file(bench: Bench, begun: bool) -> None:
    """Not asked for, and for the rest of what broke off (RFC 9110, 15.3.7: it may be less than that)."""

    def reply(head: bytes) -> list[bytes]:
        whole = begun and b"Range:" not in head
        if whole and len(wire.heads) > 1:
            return [ok(DATA, 'ETag: "1"', "Accept-Ranges: bytes")]
        if whole:
            return [ok(DATA[:200_000], 'ETag: "1"', "Accept-Ranges: bytes", length=len(DATA))]
        start = 200_000 if begun else 0
        told = f"Content-Range: bytes {start}-{start + 99}/*"
        return [ok(DATA[start : start + 100], 'ETag: "1"', told, status="206 Partial Content")]

    with Wire(reply) as wire:
        asked = Wanted(url=wire.url + "net.pth")
        if begun:
            assert bench.fetch(asked).digest == sha256(DATA)
        else:
            assert "the host does not say where the file ends" in bench.refuses(asked, TransferError)


@pytest.mark.parametrize("known", [True, False])
def test_a_host_with_another_version_at_every_request_is_given_up(bench: Bench, small_parts: None, known: bool) -> None:
    def on_hit(served: Served) -> None:
        served.etag, served.truncate = f'"{served.hits}"', 50_000
        served.data = DATA[served.hits :] + DATA[: served.hits]

    bench.forge.serve(URL, on_hit=on_hit)
    said = bench.refuses(wanted() if known else Wanted(url=URL), HublockError)
    assert URL in said
    assert len(bench.forge.requests) < 100
    assert names(bench) == []


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'
SMALL = 'mount -t tmpfs -o size=128k none "$0"'


def inside(bench: Bench, mount: str, after: str = ":") -> list[str]:
    """Fetch into a store after ``mount`` changed the disk it is on, and return the lines it and ``after`` wrote."""
    store = bench.folder / "mounted"
    store.mkdir(exist_ok=True)
    wrap = ("unshare", "--mount", "--map-root-user", "sh", "-c", f'{mount} && "$@" && {after}', str(store))
    process = start(bench, str(sha256(DATA)), URL, wrap=wrap, cache=str(store))
    out, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    return out.splitlines()


def test_a_read_only_disk_is_told_with_the_cause_and_nothing_is_asked_for(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    said, hint = inside(bench, READ_ONLY)
    assert said.startswith(f"StoreError {URL}: {bench.folder}/mounted")
    assert "cannot be written: Read-only file system" in said
    assert "HUBLOCK_CACHE_DIR" in hint
    assert bench.forge.requests == []


def test_a_read_only_disk_serves_what_it_holds(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    assert inside(bench, ":") == [f"{sha256(DATA)} network"]
    bench.forge.requests.clear()
    assert inside(bench, READ_ONLY) == [f"{sha256(DATA)} store"]
    assert bench.forge.requests == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_full_disk_is_told_with_the_cause_and_gives_its_room_back(bench: Bench, chunked: bool) -> None:
    """The length is known before, and not known before."""
    bench.forge.serve(URL, DATA, chunked=chunked)
    said, hint, *left = inside(bench, SMALL, 'find "$0" -type f -size +0 -not -name "*.TAG"')
    assert said.startswith(f"StoreError {URL}")
    assert ("cannot be written: No space left on device" if chunked else f"{URL} needs 300000 bytes") in said
    assert "hublock cache prune" in hint
    assert "HUBLOCK_CACHE_DIR" in hint
    assert left == []


@pytest.mark.parametrize("disk", ["-t ramfs", "-t tmpfs -o size=0"])
def test_a_disk_that_does_not_say_how_large_it_is_may_have_room(bench: Bench, disk: str) -> None:
    bench.forge.serve(URL, DATA)
    assert inside(bench, f'mount {disk} none "$0"') == [f"{sha256(DATA)} network"]
