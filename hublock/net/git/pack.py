"""Reading a git pack that a stranger sent: first its headers against limits, only then its objects.

The format is gitformat-pack(5). dulwich resolves the deltas; what it must never see is a pack that would make it
allocate more than the limits below (187 bytes can declare a delta whose result has 2 GiB).
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from typing import BinaryIO

from hublock.core.names import MAX_FILE, MAX_TREE
from hublock.errors import TransferError, UnsafeArchive

COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
KINDS = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}
MAX_PACK = 2 << 30
"""Bytes of a pack; the largest hub repository sends 67 MB."""
MAX_OBJECTS = 1_000_000
"""Objects in a pack, of which each costs some 200 bytes of memory to index."""
MAX_DELTAS = 256 << 20
"""Bytes of delta instructions together: they are interpreted, at some 10 MB a second when they are malicious."""
_BLOCK = 1 << 16
_DELTA_HEAD = 20
"""Bytes that hold the two sizes at the head of any delta."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """One object as its header describes it."""

    offset: int
    kind: int
    size: int
    """Inflated, in bytes: of the object, or of a delta's result."""
    base: bytes | int | None
    """Of a delta: the raw id of its base, or how far before it the base lies."""


@dataclass(slots=True)
class _Sums:
    inflated: int = 0
    deltas: int = 0


def read_objects(pack: BinaryIO, algorithm: str) -> Iterator[tuple[str, str, bytes]]:
    """Give ``(hex id, kind, data)`` of every object of an open pack; ids are computed, never believed.

    Raises:
        UnsafeArchive: the pack would take more memory or time than the limits allow.
        TransferError: the pack is damaged or cut short.
    """
    headers = scan(pack, algorithm)
    try:
        yield from _resolve(pack, algorithm, headers)
    except (UnsafeArchive, MemoryError, GeneratorExit):
        raise
    except Exception as error:
        raise TransferError(f"the host sent a damaged pack ({type(error).__name__}: {error})") from error


def _resolve(pack: BinaryIO, algorithm: str, headers: list[Packed]) -> Iterator[tuple[str, str, bytes]]:
    from dulwich.object_format import get_object_format
    from dulwich.pack import PackData, UnpackedObject, UnpackedObjectIterator

    object_format = get_object_format(algorithm)
    with PackData.from_file(pack, object_format) as data:
        walker = UnpackedObjectIterator(None, object_format.hash_func, object_format=object_format)
        walker.set_pack_data(data)
        for header in headers:
            walker.record(UnpackedObject(header.kind, delta_base=header.base, offset=header.offset))
        for found in walker:
            assert found.obj_type_num is not None
            yield found.sha().hex(), KINDS[found.obj_type_num], b"".join(found.obj_chunks or ())


def scan(pack: BinaryIO, algorithm: str) -> list[Packed]:
    """Read the headers of all objects, inflating each in small blocks, against the limits.

    Raises:
        UnsafeArchive: a limit is exceeded.
        TransferError: the pack is damaged or cut short.
    """
    try:
        data = mmap(pack.fileno(), 0, access=ACCESS_READ)
    except ValueError:
        raise TransferError("the host sent an empty pack") from None
    with data:
        try:
            return _scan(data, algorithm)
        except (IndexError, zlib.error) as error:
            raise TransferError(f"the host sent a damaged or truncated pack ({error})") from error


def _scan(data: mmap, algorithm: str) -> list[Packed]:
    trailer = hashlib.new(algorithm).digest_size
    if data[:4] != b"PACK" or int.from_bytes(data[4:8]) not in (2, 3):
        raise TransferError("the host sent something that is no pack")
    count = int.from_bytes(data[8:12])
    if count > MAX_OBJECTS:
        raise UnsafeArchive(f"the host declares a pack of {count} objects, more than {MAX_OBJECTS}")
    end = len(data) - trailer
    objects, sums, offset = [], _Sums(), 12
    for _ in range(count):
        header, offset = _object(data, offset, end, trailer, sums)
        objects.append(header)
    with memoryview(data) as view, view[:end] as body:
        if offset != end or hashlib.new(algorithm, body).digest() != data[end:]:
            raise TransferError("the host sent a truncated pack, or one with another checksum")
    return objects


def _object(data: mmap, start: int, end: int, id_size: int, sums: _Sums) -> tuple[Packed, int]:
    byte = data[start]
    kind, size, shift, offset = byte >> 4 & 7, byte & 15, 4, start + 1
    while byte & 0x80:
        byte = data[offset]
        size |= (byte & 0x7F) << shift
        shift, offset = shift + 7, offset + 1
        if shift > 64:
            raise UnsafeArchive("the host declares an object of absurd size")
    base: bytes | int | None = None
    if kind == OFS_DELTA:
        base, offset = _distance(data, offset)
        if not 0 < base <= start - 12:
            raise TransferError("the host sent a damaged pack (a delta whose base lies outside it)")
    elif kind == REF_DELTA:
        base, offset = data[offset : offset + id_size], offset + id_size
    elif kind not in KINDS:
        raise TransferError(f"the host sent a damaged pack (an object of unknown type {kind})")
    head, offset = _inflate(data, offset, end, size, sums)
    if base is not None:
        sums.deltas += size
        size = _result_size(head)
        _count(size, sums)
    if sums.deltas > MAX_DELTAS:
        raise UnsafeArchive(f"the host declares a pack with more than {MAX_DELTAS} bytes of deltas")
    return Packed(offset=start, kind=kind, size=size, base=base), offset


def _count(size: int, sums: _Sums) -> None:
    sums.inflated += size
    if size > MAX_FILE:
        raise UnsafeArchive(f"the host declares an object of {size} bytes, more than {MAX_FILE}")
    if sums.inflated > MAX_TREE:
        raise UnsafeArchive(f"the host declares objects of more than {MAX_TREE} bytes together")


def _distance(data: mmap, offset: int) -> tuple[int, int]:
    """Read the offset encoding of an OFS_DELTA's base."""
    byte = data[offset]
    value, offset = byte & 0x7F, offset + 1
    while byte & 0x80:
        byte = data[offset]
        value, offset = (value + 1) << 7 | byte & 0x7F, offset + 1
        if value > MAX_PACK:
            raise TransferError("the host sent a damaged pack (a delta whose base lies outside it)")
    return value, offset


def _inflate(data: mmap, offset: int, end: int, size: int, sums: _Sums) -> tuple[bytes, int]:
    """Inflate one stream without keeping it; return its first bytes and where it ends."""
    _count(size, sums)
    inflater, head, produced = zlib.decompressobj(), b"", 0
    pending = b""
    while not inflater.eof:
        if not pending:
            # a small object must not cost a whole block: the rest of every slice is copied once more by zlib
            pending = data[offset : min(offset + min(_BLOCK, size - produced + 64), end)]
            offset += len(pending)
            if not pending:
                raise TransferError("the host sent a truncated pack")
        piece = inflater.decompress(pending, _BLOCK)
        pending = inflater.unconsumed_tail
        head = head or piece[:_DELTA_HEAD]
        produced += len(piece)
        if produced > size:
            raise TransferError("the host sent a damaged pack (an object longer than it declares)")
    if produced != size:
        raise TransferError("the host sent a damaged pack (an object shorter than it declares)")
    return head, offset - len(inflater.unused_data)


def _result_size(head: bytes) -> int:
    """Read the second of the two sizes at the head of a delta."""
    numbers, position = [], 0
    for _ in range(2):
        value = shift = 0
        while True:
            byte = head[position]
            value |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if not byte & 0x80:
                break
        numbers.append(value)
    return numbers[1]
