import json
import random
import re
import signal
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hublock.core.digest import Digest
from hublock.errors import DigestMismatch, StoreError, TransferError
from hublock.net import parts, transfer
from hublock.net.download import Downloader, Wanted
from hublock.net.parts import PartsDownload
from hublock.net.reading import FEWEST
from hublock.net.source import Source
from hublock.net.stopping import Stop
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from hublock.store.store import Store
from tests.forge import Served
from tests.net.bench import DATA, OTHER, URL, Bench, sha256, start, wanted
from tests.net.wire import Wire, ok


def test_a_file_is_fetched_once_and_found_from_then_on(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    learnt = bench.fetch(Wanted(url=URL))
    assert (learnt.digest, learnt.size, learnt.came_from) == (sha256(DATA), len(DATA), "network")
    assert learnt.path.read_bytes() == DATA
    assert bench.fetch(wanted()).came_from == "store"
    assert len(bench.forge.requests) == 1
    assert [(task.label, task.done) for task in bench.heard.tasks] == [("net-1a2b3c4d.pth", len(DATA))]
    assert bench.partial() == []


def test_an_empty_file_is_a_file(bench: Bench) -> None:
    bench.forge.serve(URL, b"")
    assert bench.fetch(wanted(b"")).size == 0


def test_a_redirect_is_followed_and_the_url_stays_as_it_was_asked(bench: Bench) -> None:
    bench.forge.asset(URL, DATA)
    assert bench.fetch(wanted()).url == URL


def test_a_damaged_file_of_the_store_is_fetched_again(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    path = bench.fetch(wanted()).path
    path.chmod(0o644)
    path.write_bytes(OTHER)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert any("fetching it again" in line for line in bench.heard.lines)


def test_a_whole_file_of_the_store_stays_though_a_lock_has_another_size_of_it(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    path = bench.fetch(wanted()).path
    with pytest.raises(DigestMismatch, match=f"^{URL} is locked with 7 bytes, but sha256:[0-9a-f]* has {len(DATA)}\n"):
        bench.fetch(Wanted(url=URL, digest=sha256(DATA), size=7))
    assert path.read_bytes() == DATA
    assert len(bench.forge.requests) == 1


CUTS = sorted({0, 1, len(DATA) // 2, len(DATA) - 1, *random.Random(3).sample(range(len(DATA)), 20)})


@pytest.mark.parametrize("known", [True, False])
def test_a_file_broken_off_anywhere_is_resumed_to_the_same_bytes(bench: Bench, resumable: None, known: bool) -> None:
    for cut in CUTS:
        bench.forge.requests.clear()
        bench.forge.serve(URL, DATA, truncate=cut, times=1)
        bench.store.discard(sha256(DATA))
        assert bench.fetch(wanted() if known else Wanted(url=URL)).path.read_bytes() == DATA
        assert bench.asked() == [None, f"bytes={cut}-" if cut else None]


def test_a_file_broken_off_in_an_earlier_run_is_resumed(bench: Bench, resumable: None) -> None:
    served = bench.forge.serve(URL, DATA, truncate=20_000)
    assert "tried 5 times" in bench.refuses(wanted(), TransferError)
    served.truncate = None
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert bench.asked() == [None, *[f"bytes={at}-" for at in range(20_000, 120_000, 20_000)]]
    assert bench.heard.tasks[-1].done == len(DATA)


def test_each_try_goes_on_where_the_last_one_ended(bench: Bench, resumable: None) -> None:
    bench.forge.serve(URL, DATA, truncate=100_000)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert bench.asked() == [None, "bytes=100000-", "bytes=200000-"]
    assert len(bench.naps) == 2


def test_a_host_without_ranges_sends_it_all_again(bench: Bench, resumable: None) -> None:
    bench.forge.serve(URL, DATA, truncate=100_000, times=1, ranges=False)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert bench.asked() == [None, "bytes=100000-"]


@pytest.mark.parametrize(
    "lie",
    [
        "bytes 0-299999/300000",
        "bytes 100001-299999/300000",
        "bytes 100000-299999/400000",
        "bytes */300000",
        "100000-",
        "",
    ],
)
def test_a_part_that_is_not_the_one_asked_for_is_not_used(bench: Bench, resumable: None, lie: str) -> None:
    def on_hit(served: Served) -> None:
        served.truncate = 100_000 if served.hits == 1 else None
        served.headers = {"Content-Range": lie} if served.hits == 2 else {}

    bench.forge.serve(URL, DATA, on_hit=on_hit)
    assert bench.fetch(wanted(size=False)).path.read_bytes() == DATA
    assert bench.asked() == [None, "bytes=100000-", None]


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changes_amid_a_resume_is_taken_whole(bench: Bench, resumable: None, known: bool) -> None:
    def on_hit(served: Served) -> None:
        served.truncate = 100_000 if served.hits == 1 else None
        served.data, served.etag = (DATA, '"1"') if served.hits == 1 else (OTHER, '"2"')

    bench.forge.serve(URL, on_hit=on_hit)
    asked = wanted(OTHER) if known else Wanted(url=URL)
    assert bench.fetch(asked).path.read_bytes() == OTHER


def test_a_file_that_became_shorter_keeps_nothing_of_the_longer_one(bench: Bench, resumable: None) -> None:
    def on_hit(served: Served) -> None:
        served.truncate = 200_000 if served.hits == 1 else None
        served.data, served.etag = (DATA, '"1"') if served.hits == 1 else (OTHER[:100_000], '"2"')

    bench.forge.serve(URL, on_hit=on_hit)
    fetched = bench.fetch(Wanted(url=URL))
    assert (fetched.digest, fetched.path.read_bytes()) == (sha256(OTHER[:100_000]), OTHER[:100_000])
    assert bench.heard.tasks[0].done == 100_000


def test_a_host_that_ignores_if_range_is_found_out_by_its_tag(bench: Bench, resumable: None) -> None:
    def on_hit(served: Served) -> None:
        served.truncate = 100_000 if served.hits == 1 else None
        served.data = DATA if served.hits == 1 else OTHER
        served.headers = {"ETag": f'"{min(served.hits, 2)}"'}

    bench.forge.serve(URL, on_hit=on_hit)
    assert bench.fetch(Wanted(url=URL)).digest == sha256(OTHER)


def test_a_partial_file_of_another_version_is_dropped(bench: Bench, resumable: None) -> None:
    served = bench.forge.serve(URL, OTHER, truncate=50_000)
    bench.refuses(wanted(), TransferError)
    served.truncate, served.data, served.etag = None, DATA, '"2"'
    assert bench.fetch(wanted()).path.read_bytes() == DATA


def test_damaged_bytes_of_an_earlier_run_cost_a_second_try_only(bench: Bench, resumable: None) -> None:
    served = bench.forge.serve(URL, DATA, truncate=20_000)
    bench.refuses(wanted(), TransferError)
    (left,) = (path for path in (bench.store.root / "v1" / "partial").iterdir() if path.suffix != ".facts")
    left.write_bytes(bytes(left.stat().st_size))
    served.truncate = None
    assert bench.fetch(wanted()).path.read_bytes() == DATA


def test_without_a_digest_bytes_of_unsure_origin_are_never_used(bench: Bench, resumable: None) -> None:
    bench.forge.serve(URL, DATA, truncate=20_000)
    bench.refuses(Wanted(url=URL), TransferError)
    partial = bench.store.root / "v1" / "partial"
    (left,) = (path for path in partial.iterdir() if path.suffix != ".facts")
    left.write_bytes(bytes(left.stat().st_size))
    facts = left.with_name(left.name + ".facts")
    # as a power cut leaves it: noted, but not known to have reached the disk
    facts.write_text(facts.read_text().replace('"synced": true', '"synced": false'))
    bench.forge.serve(URL, DATA)
    assert bench.fetch(Wanted(url=URL)).digest == sha256(DATA)


def test_without_digest_and_validator_nothing_is_pieced_together(bench: Bench, resumable: None) -> None:
    def on_hit(served: Served) -> None:
        served.truncate = 100_000 if served.hits == 1 else None
        served.data = DATA if served.hits == 1 else OTHER

    bench.forge.serve(URL, etag=None, on_hit=on_hit)
    assert bench.fetch(Wanted(url=URL)).digest == sha256(OTHER)
    assert bench.asked() == [None, None]


def test_bytes_that_are_not_the_wanted_ones_get_no_name(bench: Bench) -> None:
    bench.forge.serve(URL, OTHER)
    said = bench.refuses(wanted(), DigestMismatch)
    assert f"{URL} serves bytes of {sha256(OTHER)}, not of the locked {sha256(DATA)}" in said
    assert "hublock update" in said
    assert len(bench.forge.requests) == 1
    assert bench.store.blob(sha256(OTHER)) is None


@pytest.mark.parametrize("length", [1, len(DATA) - 1, len(DATA) + 1, 10**15])
def test_a_file_of_another_length_is_refused_before_it_is_read(bench: Bench, length: int) -> None:
    bench.forge.serve(URL, DATA, length=length)
    assert f"serves {length} bytes, not the {len(DATA)} that are locked" in bench.refuses(wanted(), DigestMismatch)


def test_an_endless_body_ends_at_the_locked_length(bench: Bench) -> None:
    def endless(head: bytes) -> Iterator[bytes]:
        yield ok(b"", length=None)
        # with an end, so that a defect is told instead of waited for
        for _ in range(1000):
            yield bytes(1 << 16)

    with Wire(endless) as wire:
        asked = Wanted(url=wire.url + "x", digest=sha256(DATA), size=len(DATA))
        assert "serves more than the 300000 locked bytes" in bench.refuses(asked, DigestMismatch)


def test_a_body_that_ends_early_without_saying_so_is_not_kept(bench: Bench) -> None:
    bench.forge.serve(URL, DATA[:-1], chunked=True)
    assert "broke off: 299999 of 300000 bytes came (tried 5 times)" in bench.refuses(wanted(), TransferError)
    assert len(bench.forge.requests) == 5


def test_a_web_page_instead_of_a_file_is_called_one(bench: Bench) -> None:
    bench.forge.serve(URL, b"<html>please log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    assert "serves 26 bytes (a web page), not the 300000" in bench.refuses(wanted(), DigestMismatch)
    assert "(a web page), not of the locked" in bench.refuses(wanted(size=False), DigestMismatch)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip"])
def test_refuses_an_encoding_that_nobody_asked_for(bench: Bench, encoding: str) -> None:
    bench.forge.serve(URL, DATA, headers={"Content-Encoding": encoding})
    assert f"in the encoding '{encoding}'" in bench.refuses(wanted(), TransferError)
    assert len(bench.forge.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(("asks", "waits"), [("0", 0), ("7", 7), ("86400", 60)])
def test_a_busy_host_is_asked_again_when_it_says(bench: Bench, status: int, asks: str, waits: float) -> None:
    bench.forge.serve(URL, DATA, status=status, headers={"Retry-After": asks}, times=2)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert bench.naps == [waits, waits]


def test_a_rate_limit_is_waited_for(bench: Bench) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}
    bench.forge.serve(URL, DATA, status=403, headers=headers, times=1)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert bench.naps == [0]


def test_a_host_that_stays_busy_is_given_up(bench: Bench) -> None:
    bench.forge.serve(URL, DATA, status=503)
    said = bench.refuses(wanted(), TransferError)
    assert f"{URL} answers with status 503 (tried 5 times)" in said
    assert len(bench.forge.requests) == 5
    assert len(bench.naps) == 4
    assert all(0.25 * 2**tries <= nap <= 0.75 * 2**tries for tries, nap in enumerate(bench.naps))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "does not exist (404)"),
        (410, "is gone (410)"),
        (401, "needs a login"),
        (403, "status 403"),
        (451, "status 451"),
    ],
)
def test_what_is_not_there_is_not_asked_for_twice(bench: Bench, status: int, said: str) -> None:
    bench.forge.serve(URL, status=status)
    assert said in bench.refuses(wanted(), TransferError)
    assert len(bench.forge.requests) == 1


@pytest.mark.parametrize("fault", [{"drop": True}, {"stall": 100}, {"truncate": 100}])
def test_a_fault_that_passes_is_forgotten(bench: Bench, fault: dict[str, Any]) -> None:
    bench.forge.serve(URL, DATA, times=2, **fault)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert len(bench.naps) == 2


def first_breaks_off(served: Served) -> None:
    """Let the first answer, which is to bring the whole file, end soon, so that parts are asked for."""
    served.truncate = 5_000 if served.hits == 1 else None


def in_parts(
    bench: Bench, size: int, advance: Callable[[int], None] = lambda _: None
) -> tuple[Source, Path, parts.PartsDownload]:
    path = bench.folder / "file"
    path.write_bytes(bytes(len(DATA)))
    source = Source(transport=HttpTransport(bench.forge.settings(), idle_timeout=1), url=URL, route=0)
    download = parts.PartsDownload(
        source,
        path,
        parts.Parts(total=len(DATA), size=size),
        validator='"1"',
        ended=Stop(),
        patiently=lambda call: call(),
        advance=advance,
    )
    return source, path, download


def test_a_large_file_that_nobody_helps_with_is_one_request(bench: Bench, small_parts: None) -> None:
    bench.forge.serve(URL, DATA)
    source, path, download = in_parts(bench, 16 << 10)
    download.work(source.ask())
    assert bench.asked() == [None]
    assert path.read_bytes() == DATA
    assert Digest("sha256", download.digest(lambda: None)) == sha256(DATA)
    # it is the file that is hashed, not what was meant to be in it
    path.write_bytes(OTHER)
    assert Digest("sha256", download.digest(lambda: None)) == sha256(OTHER)


def test_a_part_that_broke_off_goes_on_where_it_was(bench: Bench) -> None:
    served = bench.forge.serve(URL, DATA, truncate=150_000, times=1)
    counted: list[int] = []
    source, _, download = in_parts(bench, 200_000, counted.append)
    download.work(source.ask())
    assert served.hits == 3
    [start] = re.findall(r"bytes=(\d+)-199999", str(bench.asked()))
    assert 0 < int(start) <= 150_000
    assert Digest("sha256", download.digest(lambda: None)) == sha256(DATA)
    # no byte is counted, and none is written, twice
    assert sum(counted) == len(DATA)


def test_the_answer_that_brings_all_passes_over_what_somebody_brought_who_left(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    source, path, download = in_parts(bench, 100_000)
    path.write_bytes(bytes(100_000) + DATA[100_000:130_000] + bytes(170_000))
    download._came[1] = 130_000
    download.work(source.ask())
    assert bench.asked() == [None]
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("alone", [0, 1, 2, 9])
def test_one_thread_fetches_and_hashes_as_long_as_others_wait_for_a_line(bench: Bench, alone: int) -> None:
    bench.forge.serve(URL, DATA)
    source, path, download = in_parts(bench, 100_000)
    looks = iter([True] * alone)
    first = download.begin(source.ask(), lambda: next(looks, False))
    came = min(alone * 100_000, len(DATA))
    assert path.read_bytes() == DATA[:came] + bytes(len(DATA) - came)
    # what was hashed as it came is not read again
    path.write_bytes(bytes(len(DATA)))
    download.work(first)
    assert bench.asked() == [None]
    assert path.read_bytes()[came:] == DATA[came:]
    assert Digest("sha256", download.digest(lambda: None)) == sha256(DATA)


def test_who_is_alone_and_breaks_off_leaves_the_rest_to_be_asked_for(bench: Bench) -> None:
    bench.forge.serve(URL, DATA, truncate=150_000, times=1)
    counted: list[int] = []
    source, _, download = in_parts(bench, 100_000, counted.append)
    assert download.begin(source.ask(), lambda: True) is None
    download.work()
    assert re.fullmatch(r"\[None, 'bytes=1\d+-199999', 'bytes=200000-299999'\]", str(bench.asked()))
    assert Digest("sha256", download.digest(lambda: None)) == sha256(DATA)
    assert sum(counted) == len(DATA)


def test_a_file_that_others_wait_behind_comes_over_one_line(bench: Bench, small_parts: None) -> None:
    bench.forge.serve(URL, DATA, on_hit=first_breaks_off)
    downloader = bench.downloader()
    downloader._line.waiting.add(Wanted(url="https://a.org/behind"))
    assert downloader.fetch(wanted()).path.read_bytes() == DATA
    # nobody helped who would have asked for the parts behind at the same time
    starts = [int(text[6:].partition("-")[0]) for text in bench.asked() if text]
    assert starts == sorted(starts)
    assert bench.heard.tasks[0].done == len(DATA)


@pytest.mark.parametrize("alone", [0, 1])
def test_who_helps_before_the_answer_that_brings_all_is_read_on_ends_it(bench: Bench, alone: int) -> None:
    bench.forge.serve(URL, DATA)
    source, path, download = in_parts(bench, 100_000)
    looks = iter([True] * alone)
    first = download.begin(source.ask(), lambda: next(looks, False))
    assert download._next() == alone
    download.work(first)
    assert path.read_bytes()[(alone + 1) * 100_000 :] == DATA[(alone + 1) * 100_000 :]
    download._bring(alone)
    assert Digest("sha256", download.digest(lambda: None)) == sha256(DATA)


def test_who_helps_leaves_the_next_part_to_the_answer_that_brings_all(bench: Bench) -> None:
    bench.forge.serve(URL, DATA, stall=50_000, times=1)
    source, _, download = in_parts(bench, 100_000)
    first = source.ask()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(download.work, first)
        wait_until(lambda: download._ahead == 1)
        download.work()
        assert bench.asked()[1:] == ["bytes=200000-299999"]
        reading.result(20)
    assert Digest("sha256", download.digest(lambda: None)) == sha256(DATA)


def test_a_large_file_comes_in_parts(bench: Bench, small_parts: None) -> None:
    bench.forge.serve(URL, DATA, on_hit=first_breaks_off)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    ranges = [text for text in bench.asked() if text]
    assert len(ranges) == 19
    assert len(set(ranges)) == 19
    # the other parts went on meanwhile
    assert bench.naps == []
    assert all(request.headers.get("if-range") == '"1"' for request in bench.forge.requests[1:])
    assert bench.heard.tasks[0].done == len(DATA)
    assert bench.partial() == []


@pytest.mark.parametrize("options", [{"ranges": False}, {"jobs": 1}])
def test_a_large_file_comes_whole_where_parts_do_not_help(
    bench: Bench, small_parts: None, options: dict[str, Any]
) -> None:
    bench.forge.serve(URL, DATA, ranges=options.get("ranges", True))
    assert bench.fetch(wanted(), jobs=options.get("jobs", 8)).path.read_bytes() == DATA
    assert bench.asked() == [None]


def test_a_host_that_offers_parts_and_gives_none_is_read_whole(bench: Bench, small_parts: None) -> None:
    bench.forge.serve(URL, DATA, ranges=False, headers={"Accept-Ranges": "bytes"}, on_hit=first_breaks_off)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    asked = bench.asked()
    # whole, in parts, whole again; the host may note last a part that was given up before that
    assert (asked[0], asked.count(None), any(asked)) == (None, 2, True)


def test_parts_that_break_off_are_fetched_again(bench: Bench, small_parts: None) -> None:
    def on_hit(served: Served) -> None:
        served.truncate = 5_000 if served.hits % 2 else None

    bench.forge.serve(URL, DATA, on_hit=on_hit)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert bench.heard.tasks[0].done == len(DATA)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("change", [2, 3, 9])
def test_parts_of_two_versions_are_never_mixed(bench: Bench, small_parts: None, known: bool, change: int) -> None:
    def on_hit(served: Served) -> None:
        first_breaks_off(served)
        served.data, served.etag = (DATA, '"1"') if served.hits < change else (OTHER, '"2"')

    bench.forge.serve(URL, on_hit=on_hit)
    assert bench.fetch(wanted(OTHER) if known else Wanted(url=URL)).digest == sha256(OTHER)


def test_parts_with_wrong_bytes_cost_one_more_whole_try(bench: Bench, small_parts: None) -> None:
    def on_hit(served: Served) -> None:
        first_breaks_off(served)
        served.data = OTHER if served.hits == 4 else DATA

    bench.forge.serve(URL, on_hit=on_hit)
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert bench.asked()[-1] is None


def test_parts_that_came_in_an_earlier_run_are_not_fetched_again(bench: Bench, small_parts: None) -> None:
    def on_hit(served: Served) -> None:
        first_breaks_off(served)
        served.status = 200 if served.hits < 7 else 404

    served = bench.forge.serve(URL, DATA, on_hit=on_hit)
    bench.refuses(wanted(), TransferError, jobs=2)
    (noted,) = (bench.store.root / "v1" / "partial").glob("*.facts")
    facts = json.loads(noted.read_text())
    served.on_hit, served.status = None, 200
    bench.forge.requests.clear()
    assert bench.fetch(wanted()).path.read_bytes() == DATA
    assert len(facts["done"]) >= 3
    assert len(bench.asked()) == -(-len(DATA) // facts["part"]) - len(facts["done"])
    assert not {f"bytes={number * facts['part']}" for number in facts["done"]} & {
        str(text).partition("-")[0] for text in bench.asked()
    }


def test_connections_are_bounded_by_jobs(bench: Bench, small_parts: None) -> None:
    now, most, count, together = 0, 0, threading.Lock(), threading.Event()

    def reply(head: bytes) -> Iterator[bytes]:
        nonlocal now, most
        with count:
            now += 1
            most = max(most, now)
            if now > 1:
                together.set()
        asked = re.search(rb"Range: bytes=(\d+)-(\d+)", head)
        start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, len(DATA))
        status = "206 Partial Content" if asked else "200 OK"
        together.wait(10)
        wire.closing.wait(0.005)
        with count:
            now -= 1
        yield ok(
            DATA[start:stop],
            "Accept-Ranges: bytes",
            'ETag: "1"',
            f"Content-Range: bytes {start}-{stop - 1}/{len(DATA)}",
            status=status,
        )

    with Wire(reply) as wire:
        urls = [Wanted(url=f"{wire.url}{number}") for number in range(6)]
        fetched = bench.downloader(jobs=3).fetch_all(urls)
    assert {item.digest for item in fetched} == {sha256(DATA)}
    assert 1 < most <= 3


def test_memory_stays_flat_whatever_the_size(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(48 << 20)
    bench.forge.serve(URL, data)
    tracemalloc.start()
    try:
        held = tracemalloc.get_traced_memory()[0]
        # one connection, so that the forge in this process sends one body at a time
        bench.fetch(Wanted(url=URL, size=len(data)), jobs=1)
        peak = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20 or peak - len(data) < 4 << 20


def mirrored(bench: Bench, *rules: tuple[str, str]) -> Settings:
    return Settings(cache=bench.store.root, mirrors=(*rules, ("https://", bench.forge.url)))


def test_a_dead_mirror_falls_back_to_the_origin_and_says_so(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    settings = mirrored(bench, ("https://a.org/", "http://127.0.0.1:9/"))
    assert bench.fetch(wanted(), settings=settings).path.read_bytes() == DATA
    (line,) = bench.heard.lines
    assert line.startswith("warn mirror http://127.0.0.1:9/net-1a2b3c4d.pth failed, asking the next mirror: ")
    assert "Connection refused (tried 2 times)" in line


def test_a_mirror_that_is_busy_for_long_is_not_waited_for(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    bench.forge.serve("https://mirror.lan/net-1a2b3c4d.pth", status=429, headers={"Retry-After": "60"})
    settings = mirrored(bench, ("https://a.org/", bench.forge.url + "mirror.lan/"))
    assert bench.fetch(wanted(), settings=settings).path.read_bytes() == DATA
    assert bench.naps == []
    (line,) = bench.heard.lines
    assert "answers with status 429 and asks to wait 60 s" in line


def test_a_host_that_makes_us_wait_long_is_named_once(bench: Bench) -> None:
    for name in "abc":
        bench.forge.serve(f"https://a.org/{name}", b"x", status=429, headers={"Retry-After": "60"}, times=2)
    bench.downloader().fetch_all([Wanted(url=f"https://a.org/{name}") for name in "abc"])
    assert bench.naps == [60] * 6
    assert bench.heard.lines == ["say waiting 60 s, as 127.0.0.1 asks"]


@pytest.mark.parametrize("fault", [{}, {"status": 404}, {"headers": {"Content-Type": "text/html"}}, {"truncate": 7}])
def test_a_lying_mirror_falls_back_to_the_origin(bench: Bench, fault: dict[str, Any], resumable: None) -> None:
    bench.forge.serve(URL, DATA)
    bench.forge.serve("https://mirror.lan/net-1a2b3c4d.pth", OTHER, etag='"m"', **fault)
    settings = mirrored(bench, ("https://a.org/", bench.forge.url + "mirror.lan/"))
    assert bench.fetch(wanted(), settings=settings).path.read_bytes() == DATA
    assert any("failed, asking" in line for line in bench.heard.lines)


def test_what_a_mirror_broke_off_is_finished_by_the_origin(bench: Bench, resumable: None) -> None:
    bench.forge.serve(URL, DATA, etag='"origin"')

    def on_hit(served: Served) -> None:
        served.truncate, served.status = (200_000, 200) if served.hits == 1 else (None, 404)

    bench.forge.serve("https://mirror.lan/net-1a2b3c4d.pth", DATA, etag='"m"', on_hit=on_hit)
    settings = mirrored(bench, ("https://a.org/", bench.forge.url + "mirror.lan/"))
    assert bench.fetch(wanted(), settings=settings).path.read_bytes() == DATA
    assert bench.asked()[-1] == "bytes=200000-"


def test_when_every_route_fails_the_origin_is_named(bench: Bench) -> None:
    bench.forge.serve(URL, OTHER)
    settings = mirrored(bench, ("https://a.org/", "http://127.0.0.1:9/"))
    assert URL in bench.refuses(wanted(), DigestMismatch, settings=settings)


@pytest.mark.usefixtures("resumable")
def test_a_mirror_that_lied_counts_even_where_the_origin_is_dead(bench: Bench) -> None:
    bench.forge.serve("https://mirror.lan/net-1a2b3c4d.pth", OTHER)
    rules = (("https://a.org/", bench.forge.url + "mirror.lan/"), ("https://", "http://127.0.0.1:9/"))
    said = bench.refuses(wanted(), DigestMismatch, settings=Settings(cache=bench.store.root, mirrors=rules))
    assert f"by mirror {bench.forge.url}mirror.lan/net-1a2b3c4d.pth, {URL} serves bytes of {sha256(OTHER)}" in said
    assert "Connection refused" in said
    assert bench.partial() == []


def test_a_file_of_another_cache_is_adopted_if_its_bytes_are_right(bench: Bench, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "net-1a2b3c4d.pth").write_bytes(DATA)
    fetched = bench.fetch(wanted(), adopt_from=checkpoints)
    assert (fetched.came_from, fetched.path.read_bytes()) == ("cache", DATA)
    assert bench.forge.requests == []
    assert not fetched.path.samefile(checkpoints / "net-1a2b3c4d.pth")


def test_a_file_of_another_cache_has_the_name_that_torch_hub_gives_it(bench: Bench, tmp_path: Path) -> None:
    url = "https://a.org/a%20b.pth;v=2?x=1"
    (tmp_path / "a%20b.pth").write_bytes(DATA)
    assert bench.fetch(Wanted(url=url, digest=sha256(DATA)), adopt_from=tmp_path).came_from == "cache"


@pytest.mark.parametrize("content", [OTHER, DATA[:-1], b""])
def test_a_wrong_file_of_another_cache_is_passed_over(bench: Bench, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net-1a2b3c4d.pth").write_bytes(content)
    bench.forge.serve(URL, DATA)
    assert bench.fetch(wanted(), adopt_from=tmp_path).came_from == "network"


def test_several_files_come_in_the_order_they_were_wanted(bench: Bench) -> None:
    urls = [f"https://a.org/{number}" for number in range(20)]
    for number, url in enumerate(urls):
        bench.forge.serve(url, b"%d" % number)
    several = [Wanted(url=url) for url in [*urls, urls[0]]]
    assert [item.path.read_bytes() for item in bench.downloader().fetch_all(several)] == [
        b"%d" % number for number in [*range(20), 0]
    ]
    assert len(bench.forge.requests) == 20


def test_the_first_failure_ends_the_others(bench: Bench) -> None:
    begun = threading.Event()
    stalled = bench.forge.serve("https://a.org/slow", b"x" * 100, stall=50, on_hit=lambda _: begun.set())
    bench.forge.serve("https://a.org/bad", status=404, on_hit=lambda _: begun.wait(20))
    for number in range(50):
        bench.forge.serve(f"https://a.org/{number}", b"x")
    several = [Wanted(url="https://a.org/slow"), Wanted(url="https://a.org/bad")]
    several += [Wanted(url=f"https://a.org/{number}") for number in range(50)]
    with pytest.raises(TransferError, match=r"https://a\.org/bad does not exist"):
        bench.downloader(jobs=2).fetch_all(several)
    assert stalled.hits == 1
    assert len(bench.forge.requests) < 50


def test_the_first_failure_does_not_wait_for_hosts_that_are_silent(bench: Bench) -> None:
    begun, released = threading.Barrier(3), threading.Event()

    def fall_silent(_: Served) -> None:
        begun.wait(20)
        released.wait(60)

    bench.forge.serve("https://a.org/head", b"x", on_hit=fall_silent)
    bench.forge.serve("https://a.org/body", b"x" * 100, stall=50, on_hit=lambda _: begun.wait(20))
    bench.forge.serve("https://a.org/bad", status=404, on_hit=lambda _: begun.wait(20))
    several = [Wanted(url=f"https://a.org/{name}") for name in ("head", "body", "bad")]
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(bench.downloader(idle=60).fetch_all, several)
        try:
            with pytest.raises(TransferError, match=r"https://a\.org/bad does not exist"):
                fetching.result(timeout=20)
        finally:
            released.set()


@pytest.mark.parametrize(
    "refusal",
    [
        ok(b"", status="403 Forbidden"),
        ok(b"", status="410 Gone"),
        ok(b"", status="503 Busy"),
        ok(b"", "Retry-After: 60", status="429 Too Many"),
        b"",
    ],
)
def test_a_host_that_serves_one_connection_and_refuses_the_others_is_read_by_one(
    bench: Bench, small_parts: None, monkeypatch: pytest.MonkeyPatch, refusal: bytes
) -> None:
    monkeypatch.setattr(parts, "SMALLEST", 100_000)
    left, looks, enough = threading.Event(), 0, threading.Event()
    leave, wants_help = PartsDownload._leave, PartsDownload.wants_help

    def leaves(self: PartsDownload, number: int, came: int) -> bool:
        gone = leave(self, number, came)
        left.set()
        return gone

    def asks_for_help(self: PartsDownload) -> bool:
        nonlocal looks
        looks += left.is_set()
        if looks > 3:
            enough.set()
        return wants_help.__get__(self) and not enough.is_set()

    def reply(head: bytes) -> Iterator[bytes]:
        if len(wire.heads) > 1:
            yield refusal
            return
        yield ok(DATA[:50_000], 'ETag: "1"', "Accept-Ranges: bytes", length=len(DATA))
        # amid its first part, until who was refused has left and nobody else has come for a while
        enough.wait(60)
        yield DATA[50_000:]

    monkeypatch.setattr(PartsDownload, "_leave", leaves)
    monkeypatch.setattr(PartsDownload, "wants_help", property(asks_for_help))
    with Wire(reply) as wire:
        asked = Wanted(url=wire.url, digest=sha256(DATA), size=len(DATA))
        # with two connections nobody else comes while one is still being refused
        assert bench.fetch(asked, idle=60, jobs=2).path.read_bytes() == DATA
        assert len(wire.heads) == 2
    # nobody waited, and nothing was counted twice
    assert bench.naps == []
    assert bench.heard.tasks[0].done == len(DATA)


def test_a_host_that_was_busy_once_is_asked_by_more_again_after_the_next_part(
    bench: Bench, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SMALLEST", 100_000)
    now, most, count = 0, 0, threading.Lock()

    def reply(head: bytes) -> Iterator[bytes]:
        nonlocal now, most
        if len(wire.heads) == 2:
            yield b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
            return
        with count:
            now += 1
            most = max(most, now)
        part = re.search(rb"Range: bytes=(\d+)-(\d+)", head)
        start, stop = (int(part[1]), int(part[2]) + 1) if part else (0, len(DATA))
        yield b"HTTP/1.1 %s\r\nContent-Length: %d\r\n" % (b"206 Part" if part else b"200 OK", stop - start)
        yield b'ETag: "1"\r\nAccept-Ranges: bytes\r\nContent-Range: bytes %d-%d/%d\r\n\r\n' % (
            start, stop - 1, len(DATA)
        )  # fmt: skip
        for begin in range(start, stop, 50_000):
            yield DATA[begin : min(begin + 50_000, stop)]
            wire.closing.wait(0.1)
        with count:
            now -= 1

    with Wire(reply) as wire:
        assert bench.fetch(Wanted(url=wire.url)).path.read_bytes() == DATA
    assert len(wire.heads) > 2
    assert most > 1


def test_a_part_that_fails_is_left_to_the_others(bench: Bench, small_parts: None) -> None:
    def fail(served: Served) -> None:
        first_breaks_off(served)
        served.stall = 100 if served.hits == 2 else None
        served.status = 404 if served.hits == 3 else 200

    served = bench.forge.serve(URL, DATA, on_hit=fail)
    assert bench.fetch(wanted(), idle=1).path.read_bytes() == DATA
    assert served.hits > 3


def test_parts_that_name_no_version_are_not_put_together_where_no_digest_will_tell(
    bench: Bench, small_parts: None
) -> None:
    def reply(head: bytes) -> Iterator[bytes]:
        if part := re.search(rb"Range: bytes=(\d+)-(\d*)", head):
            # newer bytes, though If-Range asked for the older ones or all
            start, stop = int(part[1]), int(part[2] or len(OTHER) - 1) + 1
            yield b"HTTP/1.1 206 Partial\r\nContent-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, len(OTHER))
            yield b"Content-Length: %d\r\n\r\n%s" % (stop - start, OTHER[start:stop])
            return
        tag, body = (b"1", DATA[:150_000]) if len(wire.heads) == 1 else (b"2", OTHER)
        yield b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nAccept-Ranges: bytes\r\n' % tag
        yield b"Content-Length: %d\r\n\r\n%s" % (len(DATA), body)

    with Wire(reply) as wire:
        assert bench.fetch(Wanted(url=wire.url)).path.read_bytes() == OTHER
        assert any(b"Range:" in head for head in wire.heads)


def test_parts_of_a_file_of_another_size_are_parts_of_another_file(bench: Bench, small_parts: None) -> None:
    def change(served: Served) -> None:
        first_breaks_off(served)
        if served.hits > 1:
            # the newer version, of which nothing else tells
            served.data = OTHER + b"longer"

    bench.forge.serve(URL, DATA, on_hit=change)
    assert bench.fetch(Wanted(url=URL)).path.read_bytes() == OTHER + b"longer"


def test_of_several_addresses_for_one_digest_the_next_is_asked(bench: Bench) -> None:
    gone, wrong = "https://a.org/gone", "https://a.org/wrong"
    bench.forge.serve(gone, status=404)
    bench.forge.serve(wrong, OTHER)
    bench.forge.serve(URL, DATA)
    several = [Wanted(url=url, digest=sha256(DATA)) for url in (gone, wrong, URL)]
    got = bench.downloader().fetch_all(several)

    assert [(item.url, item.digest) for item in got] == [(item.url, item.digest) for item in several]
    assert got[0].path.read_bytes() == DATA
    assert bench.heard.lines[0] == f"warn {gone} failed, asking {wrong}: {gone} does not exist (404)"
    assert bench.heard.lines[1].startswith(f"warn {wrong} failed, asking {URL}: {wrong} serves bytes of")
    with pytest.raises(DigestMismatch, match=f"{wrong} serves bytes of"):
        Downloader(HttpTransport(bench.forge.settings()), Store(bench.folder / "other")).fetch_all(several[:2])


def test_nothing_to_fetch_is_nothing_fetched(bench: Bench) -> None:
    assert bench.downloader().fetch_all([]) == []


def test_processes_that_want_the_same_file_fetch_it_once(bench: Bench) -> None:
    bench.forge.serve(URL, DATA, pace=0.05)
    crowd = [start(bench, str(sha256(DATA)), URL) for _ in range(6)]
    said = [process.communicate()[0].split()[1] for process in crowd]
    assert sorted(said) == ["network"] + ["store"] * 5
    assert len(bench.forge.requests) == 1


def test_two_that_fetch_the_same_files_in_opposite_order_come_to_an_end(bench: Bench) -> None:
    # each has one when it asks for the other's
    both = threading.Barrier(2, timeout=20)
    urls = ["https://a.org/here", "https://a.org/there"]
    for url in urls:
        bench.forge.serve(url, url.encode(), on_hit=lambda served: served.hits == 1 and both.wait())
    crowd = [start(bench, "-", *order, wrap=("env", "HUBLOCK_JOBS=1")) for order in (urls, urls[::-1])]
    try:
        for process, order in zip(crowd, (urls, urls[::-1]), strict=True):
            said = process.communicate(timeout=20)[0]
            assert said.splitlines() == [f"{sha256(url.encode())} network" for url in order]
    finally:
        for process in crowd:
            process.kill()


def test_an_interrupted_download_leaves_only_what_the_next_one_resumes(bench: Bench, resumable: None) -> None:
    reached = threading.Event()
    # what a first read takes: one that is interrupted loses its bytes
    bench.forge.serve(URL, DATA, stall=FEWEST, on_hit=lambda served: reached.set())
    process = start(bench, "-", URL)
    assert reached.wait(20)
    partial = bench.store.root / "v1" / "partial"
    wait_until(lambda: any(path.stat().st_size == FEWEST for path in partial.glob("*")))
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
    assert len(bench.partial()) == 2
    bench.forge.serve(URL, DATA)
    bench.forge.requests.clear()
    assert bench.fetch(Wanted(url=URL)).path.read_bytes() == DATA
    assert bench.asked() == [f"bytes={FEWEST}-"]


def test_a_killed_download_is_finished_by_the_one_that_waits(bench: Bench) -> None:
    reached = threading.Event()
    bench.forge.serve(URL, DATA, stall=100_000, times=1, on_hit=lambda served: reached.set())
    killed = start(bench, str(sha256(DATA)), URL)
    assert reached.wait(20)
    waiting = start(bench, str(sha256(DATA)), URL)
    killed.kill()
    killed.communicate()
    assert waiting.communicate(timeout=20)[0] == f"{sha256(DATA)} network\n"
    assert bench.partial() == []


def wait_until(true: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(2000):
        if true():
            return
        tick.wait(0.01)
    raise AssertionError("it never came to be")


def test_a_store_that_cannot_be_written_is_named(bench: Bench) -> None:
    (bench.folder / "cache").write_text("a file where the store should be")
    bench.forge.serve(URL, DATA)
    with pytest.raises(StoreError, match="cache"):
        bench.fetch(Wanted(url=URL))


def test_bytes_of_two_hosts_are_never_one_file_that_nobody_knows(bench: Bench, resumable: None) -> None:
    bench.forge.serve(URL, DATA, truncate=20_000)
    bench.refuses(Wanted(url=URL), TransferError)
    assert len(bench.partial()) == 2
    bench.forge.serve("https://mirror.lan/net-1a2b3c4d.pth", OTHER)
    settings = Settings(cache=bench.store.root, mirrors=(("https://a.org/", bench.forge.url + "mirror.lan/"),))
    found = bench.fetch(Wanted(url=URL), settings=settings)
    assert (found.digest, found.path.read_bytes()) == (sha256(OTHER), OTHER)


def test_a_host_that_breaks_off_where_it_did_before_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "EARNED", 1000)
    # it gives no parts, so every try brings the same bytes
    served = bench.forge.serve(URL, DATA, truncate=100_000, ranges=False)
    assert "(tried 5 times)" in bench.refuses(wanted(), TransferError)
    assert served.hits <= 2 * 5


def test_a_part_that_cannot_be_had_is_asked_for_no_more_often_than_a_file(bench: Bench, small_parts: None) -> None:
    def first_breaks_off_others_fail(served: Served) -> None:
        first_breaks_off(served)
        served.status = 200 if served.hits == 1 else 503

    served = bench.forge.serve(URL, DATA, on_hit=first_breaks_off_others_fail)
    said = bench.refuses(wanted(), TransferError, jobs=4)
    assert said.count("tried") == 1
    assert served.hits <= 1 + 2 * 4 * 5


def test_what_is_damaged_is_removed_only_by_who_has_it_to_himself(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    path = bench.fetch(wanted()).path
    path.chmod(0o644)
    path.write_bytes(OTHER)
    with ThreadPoolExecutor(1) as pool:
        with bench.store.alone(str(sha256(DATA))):
            waiting = pool.submit(bench.fetch, wanted())
            wait_until(lambda: any("waiting for another process" in line for line in bench.heard.lines))
            assert path.read_bytes() == OTHER
            path.write_bytes(DATA)
        assert waiting.result(20).came_from == "store"
    assert len(bench.forge.requests) == 1


def test_a_damaged_file_gives_way_to_one_whose_digest_is_learnt(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    path = bench.fetch(wanted()).path
    path.chmod(0o644)
    path.write_bytes(OTHER)
    assert bench.fetch(Wanted(url=URL)).path.read_bytes() == DATA
    bench.store.check_blob(sha256(DATA))


def test_what_another_cache_has_but_cannot_be_read_is_fetched(bench: Bench) -> None:
    bench.forge.serve(URL, DATA)
    (bench.folder / "checkpoints").mkdir()
    (bench.folder / "checkpoints" / "net-1a2b3c4d.pth").symlink_to("/proc/self/mem")
    found = bench.fetch(wanted(size=False), adopt_from=bench.folder / "checkpoints")
    assert found.came_from == "network"


def test_two_urls_of_one_file_are_both_answered_as_asked(bench: Bench) -> None:
    urls = [URL, "https://b.org/net.pth"]
    for url in urls:
        bench.forge.serve(url, DATA)
    found = bench.downloader().fetch_all([Wanted(url=url, digest=sha256(DATA)) for url in urls])
    assert [item.url for item in found] == urls
    assert len(bench.forge.requests) == 1
