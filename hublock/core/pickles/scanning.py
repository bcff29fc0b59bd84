"""The verdict on a checkpoint, whatever its format.

A verdict is one of

* ``"tensors"``: pickles that name nothing but :data:`TENSOR_GLOBALS`, in a form that ``torch.load(weights_only=True)``
  reads;
* ``"torchscript"``: an archive that torch reads without Python's unpickler;
* ``"none"``: nothing that an unpickler would run (safetensors, JSON, text, images …);
* the sorted names of everything beyond :data:`TENSOR_GLOBALS`, as ``module.name``. A name in angle brackets says what
  is not a global and needs consent as well: :data:`LEGACY_TAR`, :data:`TORCH_PACKAGE`, :data:`OPCODES`. With
  :data:`UNREADABLE` in it, a file could not be followed to its end, or could be read in two ways: nobody can consent.

The formats are those of ``torch.load`` (torch/serialization.py): a zip archive (since 1.6), five pickles and raw
storages (since 0.2), and a tar archive (0.1); besides plain pickles, numpy's ``.npy`` and ``.npz``, and archives and
compressed streams that hold any of these. Where torch and Python could read a zip archive differently it is unreadable.
"""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, BinaryIO

from hublock.core.lockfile import Pickle
from hublock.core.pickles.globals import TENSOR_GLOBALS, UNREADABLE, executes
from hublock.core.pickles.opcodes import Reader, Run, Truncated, Unclear, run
from hublock.core.pickles.zips import AmbiguousZip, read_directory

LEGACY_TAR = "<legacy tar>"
TORCH_PACKAGE = "<torch.package>"
OPCODES = "<opcodes that weights_only refuses>"

MAX_PICKLES = 10_000
"""Pickles one after another in one file."""
MAX_MEMBERS = 100_000
"""Members of one archive."""
MAX_DEPTH = 3
"""Archives within archives."""
MAX_UNPACKED = 4 << 30
"""Bytes of one compressed member or stream."""

_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
"""The first pickle of the second format: torch.serialization.MAGIC_NUMBER."""
_LEGACY_PICKLES = 5
_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".joblib", ".tar", ".t7", ".model")
_ELEMENT_SIZES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "Short", "BFloat16"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool", "QInt8", "QUInt8"), 1),
    "ComplexDouble": 16,
}
_FAILURES = (
    AmbiguousZip,
    Unclear,
    Truncated,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    LookupError,
)
"""What the readers of archives are known to raise over hostile bytes."""


def scan(stream: BinaryIO) -> Pickle:
    """Judge the file that ``stream`` reads from its start; it must be seekable.

    Bounded: no part of it is held in memory at large, and what goes beyond the bounds of this module is unreadable.
    """
    seen = _Seen()
    try:
        _file(stream, seen, depth=0)
    except _FAILURES:
        seen.names.add(UNREADABLE)
    return seen.verdict()


def judge(verdict: Pickle, consent: Collection[str]) -> tuple[str, ...]:
    """Return what of ``verdict`` nobody consented to: all of it that ``consent`` does not list by its very name.

    What can run anything (:func:`executes`) is no exception: whoever offers to write consent down must leave it out.
    """
    if isinstance(verdict, str):
        return ()
    return tuple(name for name in verdict if name == UNREADABLE or name not in consent)


@dataclass(slots=True)
class _Seen:
    """What was seen so far of one file."""

    names: set[str] = field(default_factory=set)
    pickled: bool = False
    script: bool = False

    def verdict(self) -> Pickle:
        beyond = self.names - TENSOR_GLOBALS
        if beyond:
            return tuple(sorted(beyond))
        return "torchscript" if self.script else "tensors" if self.pickled else "none"

    def add(self, found: Run, *, torch: bool = False) -> None:
        """Take over what one pickle does; ``torch``: torch.load reads it, so that weights_only can be forced."""
        self.names |= found.names
        self.pickled = self.pickled or found.binary or bool(found.names)
        if found.unknown:
            self.names.add(UNREADABLE)
        if torch and found.foreign_opcodes:
            self.names.add(OPCODES)


def _file(stream: IO[bytes], seen: _Seen, *, depth: int) -> None:
    """Judge one file, or one member of an archive, by how it begins."""
    if depth > MAX_DEPTH:
        raise Unclear
    stream.seek(0)
    head = stream.read(16)
    stream.seek(0)
    if head.startswith(b"PK\x03\x04"):
        _zip(stream, seen, depth)
    elif head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        _compressed(stream, head, seen, depth)
    elif head.startswith((b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")):
        raise Unclear
    elif head.startswith(b"\x93NUMPY"):
        _numpy(stream, seen)
    elif depth == 0 and zipfile.is_zipfile(stream):
        # torch.load reads what stands first, torch.hub's old format what was appended
        raise AmbiguousZip
    elif not _tar(stream, seen, depth):
        stream.seek(0)
        _pickles(Reader(stream), seen)


def _pickles(data: Reader, seen: _Seen) -> None:
    """Judge pickles that stand one after another, until something else begins."""
    first = run(data)
    if not _add_plain(first, seen):
        return
    if first.number == _MAGIC:
        seen.add(first, torch=True)
        for _ in range(_LEGACY_PICKLES - 1):
            found = run(data)
            if not found.ended:
                raise Truncated
            seen.add(found, torch=True)
        return
    for _ in range(MAX_PICKLES):
        if not data.peek() or not _add_plain(run(data), seen):
            return
    raise Unclear


def _add_plain(found: Run, seen: _Seen) -> bool:
    """Take over one pickle, or what may only look like the beginning of one; return whether it is whole.

    Raises:
        Truncated: an unpickler would fail in it, but only after having run something.
    """
    if found.ended:
        if found.binary or found.names or found.unknown:
            seen.add(found)
    elif (found.names or found.unknown) and (found.binary or found.called or any(map(executes, found.names))):
        seen.add(found)
        raise Truncated
    return found.ended


def _compressed(stream: IO[bytes], head: bytes, seen: _Seen, depth: int) -> None:
    opener = {b"\x1f": gzip.open, b"B": bz2.open}.get(head[:1], lzma.open)
    with opener(stream, "rb") as unpacked:  # type: ignore[operator]
        try:
            start = unpacked.read(4)
        except (OSError, EOFError, zlib.error, lzma.LZMAError):
            # not compressed after all: begins like it by chance
            start = b""
        unpacked.seek(0)
        if start == b"PK\x03\x04":
            _zip(unpacked, seen, depth + 1)
        elif start:
            _pickles(Reader(_Bounded(unpacked)), seen)


def _numpy(stream: IO[bytes], seen: _Seen) -> None:
    """Judge a ``.npy`` file: an array of objects is a header and a pickle (numpy.lib.format)."""
    start = stream.read(8)
    width = 2 if start[6:7] == b"\x01" else 4
    header = stream.read(min(int.from_bytes(stream.read(width), "little"), 1 << 20))
    if b"O" in header.replace(b"fortran_order", b""):
        _pickles(Reader(_Bounded(stream)), seen)


def _zip(stream: IO[bytes], seen: _Seen, depth: int) -> None:
    with zipfile.ZipFile(stream) as archive:
        members = read_directory(stream, archive, limit=MAX_MEMBERS)
        names = {info.filename.casefold() for info in members}
        root = members[0].filename.partition("/")[0]
        prefix = root.casefold() + "/"
        script = any(info.filename == f"{root}/constants.pkl" for info in members)
        checkpoint = prefix + "data.pkl" in names or script
        if checkpoint:
            _checkpoint(archive, members, seen, script=script)
        if prefix + ".data/extern_modules" in names:
            seen.names.add(TORCH_PACKAGE)
        for info in members:
            if checkpoint and info.filename.casefold().endswith(".pkl"):
                continue
            if len(members) == 1 or _worth_a_look(archive, info, prefix):
                with archive.open(info) as member:
                    _file(member, seen, depth=depth + 1)
                _check(archive, info)


def _checkpoint(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], seen: _Seen, *, script: bool) -> None:
    """Judge every pickle of an archive that torch wrote, wherever it lies."""
    for info in members:
        if not info.filename.casefold().endswith(".pkl"):
            continue
        with archive.open(info) as member:
            found = run(Reader(_Bounded(member)))
        _check(archive, info)
        if script:
            found.names = {name for name in found.names if not name.startswith(("__torch__.", "torch.jit._pickle."))}
        seen.add(found, torch=not script)
        if not found.ended:
            raise Truncated
    seen.script = seen.script or script


def _worth_a_look(archive: zipfile.ZipFile, info: zipfile.ZipInfo, prefix: str) -> bool:
    """Tell whether a member may itself be a checkpoint; storages of tensors and our own pickles are not."""
    name = info.filename.casefold()
    if info.is_dir() or name.startswith(prefix + "data/") or name.endswith((".py", ".debug_pkl")):
        return False
    if name.endswith(_SUFFIXES):
        return True
    with archive.open(info) as member:
        return member.read(2) in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}


def _check(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Read a member to its end, where its checksum is compared."""
    with archive.open(info) as member:
        size = sum(len(chunk) for chunk in _chunks(_Bounded(member)))
    if size != info.file_size:
        raise AmbiguousZip


def _chunks(stream: "_Bounded") -> Iterator[bytes]:
    while chunk := stream.read(1 << 20):
        yield chunk


class _Bounded:
    """A stream that gives up where a compressed one grows without end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = MAX_UNPACKED

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Unclear
        return data


def _tar(stream: IO[bytes], seen: _Seen, depth: int) -> bool:
    """Judge a tar archive; return False if ``stream`` is none."""
    stream.seek(0)
    try:
        # as torch opens it
        archive = tarfile.TarFile(fileobj=stream, mode="r", format=tarfile.PAX_FORMAT)
    except tarfile.TarError:
        return False
    with archive:
        members = _members(archive)
        names = [member.name for member in members]
        legacy = "pickle" in names
        if legacy:
            seen.names.add(LEGACY_TAR)
            if len(set(names)) != len(names) or not all(member.isfile() or member.isdir() for member in members):
                raise AmbiguousZip
        for member in members:
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if legacy and member.name in _LEGACY_MEMBERS:
                _LEGACY_MEMBERS[member.name](Reader(file), seen)
            elif member.name.casefold().endswith(_SUFFIXES):
                _file(file, seen, depth=depth + 1)
        return bool(members)


def _members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    members = []
    for member in archive:
        members.append(member)
        if len(members) > MAX_MEMBERS:
            raise Unclear
    return members


def _tar_storages(data: Reader, seen: _Seen) -> None:
    """Judge a count, then ``(key, location, type)``, a size and raw bytes of each storage, then the views."""
    _whole(data, seen)
    while (found := _whole(data, seen)).names:
        element = next(iter(found.names)).rpartition(".")[2].removesuffix("Storage")
        if len(found.names) != 1 or element not in _ELEMENT_SIZES:
            raise Truncated
        data.skip(int.from_bytes(data.read(8), "little") * _ELEMENT_SIZES[element])
    if data.peek():
        raise Truncated


def _tar_tensors(data: Reader, seen: _Seen) -> None:
    """Judge a count, then ``(key, storage, type)``, sizes, strides and an offset of each tensor."""
    _whole(data, seen)
    while data.peek():
        _whole(data, seen)
        dimensions = int.from_bytes(data.read(4), "little")
        data.skip(4 + 16 * dimensions + 8)


def _whole(data: Reader, seen: _Seen) -> Run:
    found = run(data)
    seen.add(found)
    if not found.ended:
        raise Truncated
    return found


_LEGACY_MEMBERS = {"storages": _tar_storages, "tensors": _tar_tensors, "pickle": _whole}
