"""Reads the opcodes of a pickle as every unpickler would, without ever running one.

The reader accepts whatever any unpickler accepts: it never decodes text that it only skips, so there is no pickle at
which it stops and an unpickler goes on. The opcodes and their arguments are those of :mod:`pickletools`.
"""

import _compat_pickle
import pickletools
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

MAX_OPCODES = 10_000_000
"""Opcodes that one file may hold; real checkpoints hold some hundred thousand."""
MAX_LINE = 1 << 20
"""Bytes of a line in a text opcode."""
MAX_NAME = 256
"""Bytes of a string that may become part of a global's name."""
MAX_NAMES = 2000
"""Globals that one pickle may name."""
_MEMO_BYTES = 64 << 20
_CHUNK = 1 << 16

WEIGHTS_ONLY_OPCODES = frozenset(
    re.findall(
        r"\w+",
        """
        PROTO STOP GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE
        NEWFALSE NEWTRUE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE
        SHORT_BINSTRING BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1
        """,
    )
)
"""What ``torch.load(weights_only=True)`` of torch 2.4 understands."""

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_CALLS = frozenset({"REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"})
_TEXTS = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_ESCAPED = frozenset({"STRING", "UNICODE"})
_UTF8 = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


class Truncated(Exception):
    """The bytes end, or an opcode is unknown: an unpickler stops here too."""


class Unclear(Exception):
    """An unpickler might go on where this reader does not, or two of them would read two different things."""


class Readable(Protocol):
    """What a reader needs of a stream."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""


class Reader:
    """Bytes of a stream from where it stands, in small and large steps."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._start = 0
        self.opcodes = 0

    @property
    def position(self) -> int:
        """How many bytes lie behind."""
        return self._start + self._at

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes, which must be few.

        Raises:
            Truncated: there are fewer.
        """
        end = self._at + size
        while end > len(self._buffer):
            self._fill()
            end = self._at + size
        data = self._buffer[self._at : end]
        self._at = end
        return data

    def skip(self, size: int) -> None:
        """Go on ``size`` bytes.

        Raises:
            Truncated: there are fewer.
        """
        while size > 0:
            if self._at == len(self._buffer):
                self._fill()
            step = min(size, len(self._buffer) - self._at)
            self._at += step
            size -= step

    def line(self) -> bytes:
        """Return the bytes up to a line feed, and go on behind it.

        Raises:
            Truncated: there is no line feed.
            Unclear: it comes after more than :data:`MAX_LINE` bytes.
        """
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            if len(self._buffer) - self._at > MAX_LINE:
                raise Unclear
            self._fill()
        data = self._buffer[self._at : end]
        self._at = end + 1
        return data

    def peek(self) -> bytes:
        """Return the next byte without going on; nothing at the end."""
        if self._at == len(self._buffer):
            try:
                self._fill()
            except Truncated:
                return b""
        return self._buffer[self._at : self._at + 1]

    def _fill(self) -> None:
        more = self._stream.read(_CHUNK)
        if not more:
            raise Truncated
        self._start += self._at
        self._buffer, self._at = self._buffer[self._at :] + more, 0


@dataclass(slots=True)
class Run:
    """What one pickle would do."""

    names: set[str] = field(default_factory=set)
    """The globals it names, as ``module.name``."""
    binary: bool = False
    """Whether it begins with a protocol opcode, as no text does."""
    ended: bool = False
    """Whether it ends as a pickle does; else an unpickler fails, after having done what stands before."""
    called: bool = False
    """Whether anything could be called before its end."""
    unknown: bool = False
    """Whether it names a global that cannot be told without running it."""
    foreign_opcodes: bool = False
    """Whether it holds opcodes that ``weights_only=True`` refuses."""
    number: bytes | None = None
    """The bytes of the integer that it is, where it is just one LONG1."""


class _Mark:
    """Stands on the stack for MARK."""


_Item = str | _Mark | None
_MARK = _Mark()


def run(data: Reader) -> Run:
    """Follow one pickle from where ``data`` stands, up to its STOP or to where an unpickler fails.

    Raises:
        Unclear: it goes beyond every bound, or unpicklers differ in how they read it.
    """
    return _Machine(data).run()


class _Machine:
    def __init__(self, data: Reader) -> None:
        self.data = data
        self.result = Run(binary=data.peek() == b"\x80")
        self.stack: list[_Item] = []
        self.memo: dict[int, str] = {}
        self.memo_bytes = 0
        self.memo_length = 0
        self.memo_gaps = False
        self.protocol = 0
        self.frame_end = 0

    def run(self) -> Run:
        with suppress(Truncated):
            while not self.result.ended:
                self._step()
        return self.result

    def _step(self) -> None:
        self.data.opcodes += 1
        if self.data.opcodes > MAX_OPCODES or len(self.result.names) > MAX_NAMES:
            raise Unclear
        opcode = _OPCODES.get(self.data.read(1))
        if opcode is None:
            raise Truncated
        name = opcode.name
        if name not in WEIGHTS_ONLY_OPCODES:
            self.result.foreign_opcodes = True
        start = self.data.position
        special = _SPECIAL.get(name)
        if special is None:
            self._ordinary(opcode)
        else:
            special(self, name)
        # _pickle forgets what it holds of an argument that goes on behind a frame, pickle.py refuses it
        if start < self.frame_end < self.data.position or (self.result.ended and start < self.frame_end):
            raise Unclear

    def _ordinary(self, opcode: pickletools.OpcodeInfo) -> None:
        name = opcode.name
        argument = self._argument(opcode)
        self._pop(opcode)
        text = _text(name, argument) if name in _TEXTS else None
        self.stack += [text] * len(opcode.stack_after)
        if name in _CALLS:
            self.result.called = True
        self.result.number = argument if name == "LONG1" else None

    def _argument(self, opcode: pickletools.OpcodeInfo) -> bytes:
        """Read an argument; a long one is skipped and returned empty."""
        size = opcode.arg.n if opcode.arg else 0
        if size == pickletools.UP_TO_NEWLINE:
            return self.data.line()
        if size >= 0:
            return self.data.read(size)
        signed = size == pickletools.TAKEN_FROM_ARGUMENT4
        length = int.from_bytes(self.data.read(_LENGTHS[size]), "little", signed=signed)
        if length < 0:
            raise Truncated
        if length <= MAX_NAME:
            return self.data.read(length)
        self.data.skip(length)
        return b""

    def _pop(self, opcode: pickletools.OpcodeInfo) -> None:
        before = opcode.stack_before
        count = len(before)
        if pickletools.markobject in before:
            while self._take() is not _MARK:
                pass
            count = before.index(pickletools.markobject)
        for _ in range(count):
            self._take()

    def _take(self) -> _Item:
        if not self.stack:
            raise Truncated
        return self.stack.pop()

    def _stop(self, _: str) -> None:
        if not self.stack:
            raise Truncated
        self.result.ended = True

    def _proto(self, _: str) -> None:
        # pickle.py and _pickle both let a later PROTO change the protocol
        self.protocol = self.data.read(1)[0]

    def _frame(self, _: str) -> None:
        length = int.from_bytes(self.data.read(8), "little")
        if self.data.position < self.frame_end:
            raise Unclear
        self.frame_end = self.data.position + length

    def _mark(self, _: str) -> None:
        self.stack.append(_MARK)

    def _duplicate(self, _: str) -> None:
        top = self._take()
        self.stack += [top, top]

    def _global(self, name: str) -> None:
        try:
            module, attribute = (_decode(self.data.line()) for _ in range(2))
        except Truncated:
            # pickle.py takes the rest for a line
            self.result.unknown = True
            self.result.called = self.result.called or (name == "INST" and _MARK in self.stack)
            raise
        # named first: pickle.py imports before it looks for the mark
        self._name(module, attribute)
        if name == "INST":
            while self._take() is not _MARK:
                pass
            self.result.called = True
        self.stack.append(None)

    def _stack_global(self, _: str) -> None:
        attribute, module = self._take(), self._take()
        if isinstance(module, str) and isinstance(attribute, str):
            self._name(module, attribute)
        else:
            self.result.unknown = True
        self.stack.append(None)

    def _extension(self, name: str) -> None:
        self.data.read({"EXT1": 1, "EXT2": 2, "EXT4": 4}[name])
        self.result.unknown = True
        self.stack.append(None)

    def _get(self, name: str) -> None:
        key = self._key(name)
        self.stack.append(self.memo.get(key))

    def _put(self, name: str) -> None:
        key = self.memo_length if name == "MEMOIZE" else self._key(name)
        top = self._take()
        self.stack.append(top)
        # MEMOIZE counts entries: only without gaps is that count known without keeping them all
        if self.memo_gaps and name == "MEMOIZE":
            raise Unclear
        self.memo_gaps = self.memo_gaps or key > self.memo_length
        self.memo_length = max(self.memo_length, key + 1)
        self.memo.pop(key, None)
        if isinstance(top, str):
            self.memo[key] = top
            self.memo_bytes += len(top) + 100
            if self.memo_bytes > _MEMO_BYTES:
                raise Unclear

    def _key(self, name: str) -> int:
        if name in {"GET", "PUT"}:
            try:
                return int(self.data.line())
            except ValueError:
                raise Truncated from None
        return int.from_bytes(self.data.read(1 if name in {"BINGET", "BINPUT"} else 4), "little")

    def _name(self, module: str, attribute: str) -> None:
        # pickle's fix_imports: below protocol 3, names are those of Python 2
        if self.protocol < 3:
            if (module, attribute) in _compat_pickle.NAME_MAPPING:
                module, attribute = _compat_pickle.NAME_MAPPING[module, attribute]
            else:
                module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        name = f"{module}.{attribute}"
        if len(name) > 2 * MAX_NAME:
            self.result.unknown = True
        else:
            self.result.names.add(name if name.isascii() and name.isprintable() else ascii(name)[1:-1])


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _text(name: str, argument: bytes) -> str | None:
    """Return a string that may become a global's name; None for one that unpicklers could read in two ways."""
    if name == "STRING":
        argument = argument.strip()[1:-1]
    if not argument or (name in _ESCAPED and b"\\" in argument) or (name not in _UTF8 and not argument.isascii()):
        return None
    return _decode(argument)


_SPECIAL: dict[str, Callable[[_Machine, str], None]] = {
    "STOP": _Machine._stop,
    "PROTO": _Machine._proto,
    "FRAME": _Machine._frame,
    "MARK": _Machine._mark,
    "DUP": _Machine._duplicate,
    "GLOBAL": _Machine._global,
    "INST": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Machine._extension),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._put),
}
