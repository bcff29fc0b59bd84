"""A pack is read within limits, or refused."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from tempfile import TemporaryFile
from typing import BinaryIO

import pytest

from hublock.errors import TransferError, UnsafeArchive
from hublock.net.git import pack as pack_module
from hublock.net.git.pack import read_objects, scan
from tests.net.archives import zeros
from tests.net.packs import (
    BLOB,
    COMMIT,
    OFS_DELTA,
    REF_DELTA,
    TREE,
    delta_bomb,
    distance,
    entry,
    header,
    object_id,
    pack,
    varint,
)

BASE = b"the base of a delta\n" * 10


@contextmanager
def spooled(data: bytes) -> Iterator[BinaryIO]:
    with TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file


def read(data: bytes) -> dict[str, tuple[str, bytes]]:
    with spooled(data) as file:
        return {identity: (kind, content) for identity, kind, content in read_objects(file, "sha1")}


def delta(result_size: int, instructions: bytes) -> bytes:
    return varint(len(BASE)) + varint(result_size) + instructions


def test_reads_objects_and_both_kinds_of_delta() -> None:
    base = entry((BLOB, BASE))
    near = entry((OFS_DELTA, delta(25, b"\x90\x14\x05hello"), distance(len(base))))
    far = entry((REF_DELTA, delta(20, b"\x90\x14"), object_id("blob", BASE)))
    found = read(pack([base, near, far, entry((TREE, b"")), entry((BLOB, b""))]))
    assert sorted(found.values()) == sorted(
        [
            ("blob", BASE),
            ("blob", BASE[:20] + b"hello"),
            ("blob", BASE[:20]),
            ("tree", b""),
            ("blob", b""),
        ]
    )
    assert all(object_id(kind, data).hex() == identity for identity, (kind, data) in found.items())


def test_reads_an_empty_pack() -> None:
    assert read(pack([])) == {}


GOOD = entry((BLOB, BASE))
DAMAGED = {
    "empty": b"",
    "no pack": b"KCAP" + pack([GOOD])[4:],
    "another version": b"PACK" + (9).to_bytes(4) + pack([GOOD])[8:],
    "only a header": pack([GOOD])[:12],
    "fewer objects than declared": pack([GOOD], count=2),
    "more objects than declared": pack([GOOD, GOOD], count=1),
    "trailing bytes": pack([GOOD]) + b"x",
    "another checksum": pack([GOOD])[:-1] + b"x",
    "declared shorter": pack([entry((BLOB, BASE), declared=len(BASE) - 1)]),
    "declared longer": pack([entry((BLOB, BASE), declared=len(BASE) + 1)]),
    "unknown type 0": pack([entry((0, BASE))]),
    "unknown type 5": pack([entry((5, BASE))]),
    "no zlib": pack([header(BLOB, 5) + b"hello"]),
    "delta before the pack": pack([entry((OFS_DELTA, delta(1, b"\x01a"), distance(100)))]),
    "delta of itself": pack([GOOD, entry((OFS_DELTA, delta(1, b"\x01a"), b"\0"))]),
    "delta into the middle": pack([GOOD, entry((OFS_DELTA, delta(1, b"\x01a"), distance(3)))]),
    "delta of nothing": pack([entry((REF_DELTA, delta(1, b"\x01a"), b"1" * 20))]),
    "deltas in a circle": pack([entry((REF_DELTA, delta(1, b"\x01a"), b"1" * 20))] * 2),
    "delta of another size": pack([GOOD, entry((REF_DELTA, delta(99, b"\x01a"), object_id("blob", BASE)))]),
    "delta beyond its base": pack([GOOD, entry((REF_DELTA, delta(9, b"\x91\xff\x09"), object_id("blob", BASE)))]),
    "delta cut short": pack([GOOD, entry((REF_DELTA, b"\xff", object_id("blob", BASE)))]),
    "delta without instructions": pack([GOOD, entry((REF_DELTA, b"", object_id("blob", BASE)))]),
    "distance without end": pack([GOOD, header(OFS_DELTA, 1) + b"\xff" * 40]),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_refuses_a_damaged_pack(data: bytes) -> None:
    with pytest.raises(TransferError, match="the host sent"):
        read(data)


@pytest.mark.parametrize(
    ("limit", "value", "data"),
    [
        ("MAX_OBJECTS", 3, pack([GOOD] * 4)),
        ("MAX_FILE", 199, pack([GOOD])),
        ("MAX_TREE", 799, pack([GOOD] * 4)),
        ("MAX_DELTAS", 3, pack([GOOD, entry((REF_DELTA, delta(1, b"\x01a"), object_id("blob", BASE)))])),
    ],
)
def test_refuses_what_exceeds_a_limit(monkeypatch: pytest.MonkeyPatch, limit: str, value: int, data: bytes) -> None:
    assert read(data)
    monkeypatch.setattr(pack_module, limit, value)
    with pytest.raises(UnsafeArchive):
        read(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (pack([header(BLOB, 1 << 40) + b"never inflated"]), f"of {1 << 40} bytes"),
        (pack([b"\xbf" + b"\xff" * 30 + b"\x01"]), "absurd"),
        (pack([], count=0xFFFFFFFF), "4294967295 objects"),
        (delta_bomb(), "2164260735 bytes"),
    ],
)
def test_refuses_declared_sizes_before_anything_is_inflated(data: bytes, told: str) -> None:
    with spooled(data) as file, pytest.raises(UnsafeArchive, match=told):
        scan(file, "sha1")


def test_a_delta_whose_base_is_elsewhere_is_told() -> None:
    for name in ("delta before the pack", "delta of itself", "distance without end"):
        with pytest.raises(TransferError, match="base lies outside it"):
            read(DAMAGED[name])


def test_an_object_longer_than_it_declares_is_given_up_at_once() -> None:
    """4 GiB of zeros that say they are 3 bytes: inflating them takes many seconds."""
    data = pack([header(BLOB, 3) + b"\x78\x9c" + zeros(4096)])
    start = time.process_time()
    with pytest.raises(TransferError, match="longer than it declares"):
        read(data)
    assert time.process_time() - start < 1


def test_any_damage_is_refused_or_harmless() -> None:
    """Whatever is changed, what comes out under an id has that id, and nothing but our errors escapes."""
    whole = pack(
        [
            entry((COMMIT, b"tree x\n")),
            GOOD,
            entry((OFS_DELTA, delta(25, b"\x90\x14\x05hello"), distance(len(GOOD)))),
            entry((REF_DELTA, delta(20, b"\x90\x14"), object_id("blob", BASE))),
        ]
    )
    chance = random.Random(7)
    refused = 0
    for _ in range(800):
        data = bytearray(whole[:-20])
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            found = read(bytes(data) + sha1(data).digest())
        except (TransferError, UnsafeArchive):
            refused += 1
        else:
            assert all(object_id(kind, content).hex() == identity for identity, (kind, content) in found.items())
    assert refused > 400
