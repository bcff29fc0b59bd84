"""Packs by hand (gitformat-pack), to say what no git would say."""

import hashlib
import zlib
from collections.abc import Callable, Sequence

COMMIT, TREE, BLOB, OFS_DELTA, REF_DELTA = 1, 2, 3, 6, 7
Object = tuple[int, bytes] | tuple[int, bytes, bytes]
"""Kind and content; of a delta also its base: a raw id, or the encoded distance."""


def header(kind: int, size: int) -> bytes:
    byte, size = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    out.append(byte)
    return bytes(out)


def entry(item: Object, *, declared: int | None = None) -> bytes:
    kind, content = item[0], item[1]
    base = item[2] if len(item) == 3 else b""
    return header(kind, len(content) if declared is None else declared) + base + zlib.compress(content, 9)


def pack(entries: Sequence[bytes], *, count: int | None = None) -> bytes:
    body = b"PACK" + (2).to_bytes(4) + (len(entries) if count is None else count).to_bytes(4) + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def object_id(kind: str, data: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).digest()


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delta_bomb() -> bytes:
    """Return fewer than 200 bytes whose last delta has a result of 2 GiB."""
    base = bytes(1 << 16)
    whole = b"\x80"  # copy 64 KiB from the start
    first = varint(len(base)) + varint(len(base) * 256) + whole * 256
    more = b"\xf0\xff\xff\xff"  # copy 16 MiB - 1 from the start
    second = varint(len(base) * 256) + varint(0xFFFFFF * 129) + more * 129
    entries = [entry((BLOB, base))]
    for data in (first, second):
        entries.append(entry((OFS_DELTA, data, distance(len(entries[-1])))))
    return pack(entries)


def distance(back: int) -> bytes:
    """Encode how far before it the base of an OFS_DELTA lies."""
    out = [back & 0x7F]
    while back := back >> 7:
        back -= 1
        out.append(back & 0x7F | 0x80)
    return bytes(reversed(out))


def answering(pack_bytes: bytes) -> Callable[[bytes, bytes], bytes]:
    """Return what makes a forge answer every fetch with ``pack_bytes`` (protocol v2, side band 1)."""

    def tamper(request: bytes, response: bytes) -> bytes:
        if b"command=fetch" not in request:
            return response
        out = response[: max(response.find(b"packfile\n") - 4, 0)] + b"000dpackfile\n"
        for at in range(0, len(pack_bytes), 60_000):
            piece = b"\x01" + pack_bytes[at : at + 60_000]
            out += b"%04x" % (len(piece) + 4) + piece
        return out + b"0000"

    return tamper


def sent_pack(response: bytes) -> bytes:
    """Return the pack that a fetch response holds."""
    at, out = response.find(b"packfile\n") + 9, b""
    while (size := int(response[at : at + 4], 16)) > 4:
        if response[at + 4] == 1:
            out += response[at + 5 : at + size]
        at += size
    return out


def commit_of(tree: bytes) -> bytes:
    """Return a commit object of the tree whose raw id is given."""
    person = b"A. Author <author@example.org> 1700000000 +0000"
    return b"tree %s\nauthor %s\ncommitter %s\n\na commit\n" % (tree.hex().encode(), person, person)
