"""The strict reading of bundles."""

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from hublock.errors import UnsafeArchive
from hublock.store import bundle
from hublock.store.bundle import END, VERSION, VERSION_NAME, Bundle, header, padding

A, B, C = "blobs/sha256/" + "a" * 64, "objects/git-sha256/" + "b" * 64, "trees/git-sha256/" + "c" * 64


def entry(name: str, data: bytes) -> bytes:
    return header(name, len(data)) + data + padding(len(data))


FIRST = entry(VERSION_NAME, VERSION)
GOOD = FIRST + entry(A, b"a" * 700) + entry(B, b"") + entry(C, b"c" * 512) + END


def opened(data: bytes) -> Bundle:
    return Bundle(Path("x.tar"), io.BytesIO(data))


def test_reads_what_it_writes() -> None:
    read = opened(GOOD)
    assert [name in read for name in (A, B, C, "blobs/sha256/" + "d" * 64)] == [True, True, True, False]
    assert (b"".join(read.pieces(A, 100)), read.read(B, 0), read.read(C, 512)) == (b"a" * 700, b"", b"c" * 512)


def test_any_tar_can_list_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as tar:
        assert [(item.name, item.size, item.mode, item.mtime, item.isreg()) for item in tar] == [
            (VERSION_NAME, 2, 0o644, 0, True),
            (A, 700, 0o644, 0, True),
            (B, 0, 0o644, 0, True),
            (C, 512, 0o644, 0, True),
        ]


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 60])
def test_any_size_has_a_header_that_tar_reads(size: int) -> None:
    item = tarfile.TarInfo.frombuf(header(A, size), "ascii", "strict")
    assert (item.name, item.size) == (A, size)


def test_bytes_past_the_limit_are_not_read() -> None:
    with pytest.raises(UnsafeArchive, match="more than 511"):
        opened(GOOD).read(C, 511)


def foreign(
    change: Callable[[tarfile.TarInfo], object], name: str = A, format: Literal[0, 1, 2] = tarfile.USTAR_FORMAT
) -> bytes:
    """Return a bundle that holds one entry as another program might write it."""
    item = tarfile.TarInfo(name)
    item.size, item.mode = 3, 0o644
    change(item)
    return FIRST + item.tobuf(format) + b"abc" + padding(3) + END


def a_link(item: tarfile.TarInfo) -> None:
    item.type, item.linkname, item.size = tarfile.SYMTYPE, "/etc/passwd", 0


def a_hard_link(item: tarfile.TarInfo) -> None:
    item.type, item.linkname = tarfile.LNKTYPE, "../../x"


def a_device(item: tarfile.TarInfo) -> None:
    item.type = tarfile.CHRTYPE


HOSTILE = {
    "nothing": b"",
    "no tar": random.Random(1).randbytes(4096),
    "only an end": END,
    "another version": entry(VERSION_NAME, b"2\n") + END,
    "a long version": entry(VERSION_NAME, b"1\n" * 999) + END,
    "no version": entry(A, b"a") + END,
    "a late version": entry(A, b"a") + FIRST + END,
    "two versions": FIRST + FIRST + END,
    "no end": GOOD[: -len(END)],
    "half an end": GOOD[:-512],
    "more behind its end": GOOD + b"x",
    "zeros behind its end": GOOD + bytes(512),
    "cut short": GOOD[:2000],
    "the same twice": FIRST + entry(A, b"a") + entry(A, b"b") + END,
    "not zeros in its padding": FIRST + header(A, 3) + b"abc" + b"x" + bytes(508) + END,
    "a size past its end": FIRST + header(A, 1 << 70) + END,
    "a negative size": FIRST + foreign(lambda item: None)[1024:1148] + b"-0000000003\0" + bytes(376) + END,
    "a name that climbs": foreign(lambda item: None, "../../etc/passwd"),
    "a name from the root": foreign(lambda item: None, "/etc/passwd"),
    "a name in capitals": foreign(lambda item: None, A.upper()),
    "a short name": foreign(lambda item: None, A[:-1]),
    "a name with a line feed": foreign(lambda item: None, A + "\n"),
    "an unknown folder": foreign(lambda item: None, "locks/" + "a" * 64),
    "a link": foreign(a_link),
    "a hard link": foreign(a_hard_link),
    "a device": foreign(a_device),
    "a folder": foreign(lambda item: setattr(item, "type", tarfile.DIRTYPE)),
    "an executable": foreign(lambda item: setattr(item, "mode", 0o755)),
    "a time": foreign(lambda item: setattr(item, "mtime", 1)),
    "an owner": foreign(lambda item: setattr(item, "uid", 1)),
    "a user": foreign(lambda item: setattr(item, "uname", "root")),
    "a GNU header": foreign(lambda item: None, format=tarfile.GNU_FORMAT),
    "a pax header": foreign(
        lambda item: setattr(item, "pax_headers", {"path": "/etc/passwd"}), format=tarfile.PAX_FORMAT
    ),
    "a GNU long name": foreign(lambda item: None, "x" * 300, format=tarfile.GNU_FORMAT),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_a_file_with(name: str) -> None:
    with pytest.raises(UnsafeArchive, match=r"x\.tar cannot be taken in"):
        opened(HOSTILE[name])


def test_refuses_every_flipped_bit_of_a_header() -> None:
    wrong = 0
    for place in [*range(512), *range(1024, 1536)]:
        changed = bytearray(GOOD)
        changed[place] ^= 1 << random.Random(place).randrange(8)
        try:
            read = opened(bytes(changed))
        except UnsafeArchive:
            wrong += 1
        else:
            raise AssertionError(f"byte {place} may be changed: {read._entries}")
    assert wrong == 1024


def test_refuses_more_entries_than_any_lock_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST", 3)
    with pytest.raises(UnsafeArchive, match="more than 3 entries"):
        opened(GOOD)


def test_a_file_cut_short_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(GOOD)
    with path.open("rb", buffering=0) as file:
        read = Bundle(path, file)
        path.write_bytes(GOOD[:1600])
        with pytest.raises(UnsafeArchive, match="cut short"):
            list(read.pieces(A))
