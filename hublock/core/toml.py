"""Reading TOML at a bounded cost, saying where it is wrong, and writing its values."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hublock.core.tables import BARE, Cell, Source
from hublock.errors import HublockError, InvalidLock

LARGEST = 16 * 2**20
"""The longest text that is read, in characters."""
DEEPEST = 32
"""How many brackets may be open at once."""
DOTTED = 8
"""How many dots a key may hold: tomllib takes 7 s for one dotted key of 40 KB."""

# TOML 1.0: comments and the four kinds of strings are stepped over, so that only structure is counted.
_TOKEN = re.compile(
    r"""(?P<skip> \#[^\n]*+
        | \"{3} (?: [^"\\]++ | \\. | "{1,2}(?!") )*+ "{3,5}
        | '{3} (?: [^']++ | '{1,2}(?!') )*+ '{3,5}
        | "(?!"") (?: [^"\\\n]++ | \\. )*+ "
        | '(?!'') [^'\n]*+ '
        )
    | (?P<open> [\[{] ) | (?P<close> [\]}] ) | (?P<dot> \. ) | (?P<part> [=,\n] ) | (?P<broken> ["'] )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_TO_ESCAPE = re.compile(r"[^ !#-\[\]-~]")
_CONFLICT = re.compile(r"^(?:<{7}|>{7}|\|{7}|={7}$)", re.MULTILINE)
_PLACE = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)


def read_toml(text: str, *, file: str, refusal: type[HublockError], hint: str) -> Cell:
    """Parse ``text`` and return its root table; ``file`` is its name in messages.

    Raises:
        HublockError: ``refusal``, when the text is too large, too deep, in conflict or not TOML 1.0.
    """
    source = Source(file, refusal, hint)
    if len(text) > LARGEST:
        raise Cell(None, source).refuse(f"is larger than {LARGEST // 2**20} MiB")
    bound(text, source)
    try:
        return Cell(tomllib.loads(text), source)
    except (ValueError, RecursionError) as error:
        raise _syntax(text, source, str(error)) from None


def tokens(text: str) -> Iterator["re.Match[str]"]:
    """Yield what gives TOML its structure, up to the first lexical error.

    The group that matched is ``skip`` (a comment or a string), ``open`` or ``close`` (a bracket), ``dot``, or ``part``
    (an equals sign, a comma or the end of a line).
    """
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "broken":
            return
        yield token


def bound(text: str, source: Source) -> None:
    """Refuse nesting and dotted keys that would make tomllib slow; lexical errors are left to tomllib."""
    depth = dots = 0
    for token in tokens(text):
        kind = token.lastgroup
        if kind == "dot":
            dots += 1
        elif kind != "skip":
            dots = 0
            depth += (kind == "open") - (kind == "close")
        if depth > DEEPEST:
            raise _at(text, token.start(), source).refuse(f"nests deeper than {DEEPEST} levels")
        if dots > DOTTED:
            raise _at(text, token.start(), source).refuse(f"holds a key of more than {DOTTED} dots")


def _at(text: str, offset: int, source: Source) -> Cell:
    return _there(f"line {text.count(chr(10), 0, offset) + 1}", source)


def _there(place: str, source: Source) -> Cell:
    return Cell(None, replace(source, file=f"{source.file}: {place}"))


def _syntax(text: str, source: Source, problem: str) -> HublockError:
    conflict = _CONFLICT.search(text)
    if conflict:
        here = _at(text, conflict.start(), source)
        # a lock is recovered from its two sides; what a manifest should say only a person can tell
        merge = "merge both sides of each conflict by hand, then hublock lock"
        hint = "hublock lock" if source.refusal is InvalidLock else merge
        return here.refuse("holds git conflict markers", hint=hint)
    place = _PLACE.fullmatch(problem)
    what = place["what"] if place else problem
    said = f"not valid TOML ({what[:1].lower()}{what[1:]})"
    if place is None:
        return Cell(None, source).refuse(said)
    return _there(f"line {place['line']}, column {place['column']}" if place["line"] else "at its end", source).refuse(
        said
    )


def write(value: Any, *, ascii_only: bool = True) -> str:
    """Write a value on one line, tables as inline tables with their keys in the order they have.

    Raises:
        ValueError: a string holds a lone surrogate, which TOML cannot say.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        kept = "" if ascii_only else "".join(filter(str.isprintable, set(value) - _ESCAPES.keys()))
        return '"' + _TO_ESCAPE.sub(lambda mark: mark[0] if mark[0] in kept else _escape(mark[0]), value) + '"'
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = [
            f"{write_key(key, ascii_only=ascii_only)} = {write(v, ascii_only=ascii_only)}" for key, v in value.items()
        ]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return f"[{', '.join(write(item, ascii_only=ascii_only) for item in value)}]"


def write_key(key: str, *, ascii_only: bool = True) -> str:
    """Write one part of a key, bare where it can be."""
    return key if BARE.fullmatch(key) else write(key, ascii_only=ascii_only)


def _escape(mark: str) -> str:
    code = ord(mark)
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"TOML cannot hold the lone surrogate U+{code:04X}")
    return _ESCAPES.get(mark) or (f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}")
