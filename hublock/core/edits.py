"""Changing one table of a TOML file and nothing else: comments, order and line endings stay as they were.

A table that stands under a header of its own is spliced as lines, because tomlkit moves comments between neighbours
and merges tables that are written out of order; any other layout is left to tomlkit as a whole.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hublock.core.toml import tokens, write, write_key

Path = tuple[str, ...]
Values = Mapping[str, Any]
"""Key and value of one table, in the order to write them; a dict becomes an inline table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A header and what it heads, as lines."""

    path: Path
    start: int
    """Its first line: the comment directly above its header, unless that comment begins the file."""
    header: int
    end: int
    """One past its last line; a comment that hangs on the next header, or on none, lies beyond."""


def splice(text: str, path: Path, values: Values | None) -> str:
    """Put, change or (``values`` None) cut the table ``path``, which has or gets a header of its own.

    Raises:
        LookupError: the table to cut has no header.
    """
    newline = line_ending(text)
    lines = _lines(text)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += newline
    found = [section for section in sections(lines) if section.path[: len(path)] == path]
    if values is None:
        if not found:
            raise LookupError(path)
        for section in reversed(found):
            _cut(lines, section)
    elif found:
        _change(lines, found, path, values)
    else:
        _insert(lines, path, values)
    return _ended(lines, newline)


def rewrite(text: str, path: Path, values: Values | None) -> str:
    """Do what :func:`splice` does to a table that is an inline table or has dotted keys.

    Raises:
        LookupError: the table to cut is not there.
    """
    import tomlkit

    document = tomlkit.parse(text)
    home: Any = document
    for key in path[:-1]:
        home = home[key] if values is None else home.setdefault(key, tomlkit.table(is_super_table=True))
    table = home.get(path[-1])
    if values is None:
        del home[path[-1]]
    elif table is None:
        home[path[-1]] = {key: _item(value) for key, value in values.items()}
    else:
        _assign(table, table.unwrap(), values)
    return _ended(_lines(document.as_string()), line_ending(text))


def exchange(text: str, path: Path, values: Values | None) -> str:
    """Cut a table that stands in dotted keys, and put it under a header of its own.

    Raises:
        LookupError: the table is not there.
    """
    cut = rewrite(text, path, None)
    return cut if values is None else splice(cut, path, values)


def comments(text: str) -> Counter[str]:
    """Return the comments of a valid TOML file, and how often each is there."""
    return Counter(token[0].rstrip() for token in tokens(text) if token[0].startswith("#"))


def line_ending(text: str) -> str:
    """Return how the lines of ``text`` end: CRLF if all of them do."""
    return "\r\n" if "\n" in text and text.count("\n") == text.count("\r\n") else "\n"


def sections(lines: list[str]) -> list[Section]:
    """Return the header tables of a valid TOML file, arrays of tables among them, in their order."""
    headers = list(_headers(lines))
    found = []
    for number, (at, path) in enumerate(headers):
        after = _above(lines, headers[number + 1][0]) if number + 1 < len(headers) else len(lines)
        found.append(Section(path=path, start=_above(lines, at), header=at, end=_end(lines, at, after)))
    return found


def _headers(lines: list[str]) -> Iterator[tuple[int, Path]]:
    """Yield line and path of each header: an opening bracket that begins a statement."""
    depth = line = 0
    fresh, begin = True, 0
    text = "".join(lines)
    for token in tokens(text):
        if fresh and depth == 0 and token.lastgroup == "open" and not text[begin : token.start()].strip():
            yield line, _header_path(lines[line])
        fresh = False
        if token.lastgroup in ("open", "close"):
            depth += 1 if token.lastgroup == "open" else -1
        newlines = token[0].count("\n")
        line += newlines
        if newlines and token.lastgroup == "part":
            fresh, begin = True, token.end()


def _header_path(header: str) -> Path:
    table: Any = tomllib.loads(header)
    path = []
    while isinstance(table, dict) and table:
        ((key, table),) = table.items()
        path.append(key)
    return tuple(path)


def _above(lines: list[str], header: int) -> int:
    """Return where the comment directly above a header begins; the comment that begins a file speaks of the file."""
    at = header
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return at or header


def _end(lines: list[str], header: int, after: int) -> int:
    """Return one past the last line of a section, given where the next one starts."""
    end = after
    while end - 1 > header and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    hanging = end
    while hanging < after and lines[hanging].strip():
        hanging += 1
    return hanging


def _cut(lines: list[str], section: Section) -> None:
    """Take out a section and one of the two gaps around it."""
    end, start = section.end, section.start
    if start == 0 or not lines[start - 1].strip():
        while end < len(lines) and not lines[end].strip():
            end += 1
    while end == len(lines) and start and not lines[start - 1].strip():
        start -= 1
    del lines[start:end]


def _insert(lines: list[str], path: Path, values: Values) -> None:
    """Put a new table behind its siblings, else behind its cousins, else at the end."""
    known = sections(lines)
    at = len(lines)
    for depth in range(len(path) - 1, 0, -1):
        near = [section.end for section in known if section.path[:depth] == path[:depth]]
        if near:
            at = near[-1]
            break
    header = ".".join(write_key(key, ascii_only=False) for key in path)
    block = [f"[{header}]\n"]
    block += [f"{write_key(key)} = {write(value, ascii_only=False)}\n" for key, value in values.items()]
    before = ["\n"] if at and lines[at - 1].strip() else []
    after = ["\n"] if at < len(lines) and lines[at].strip() else []
    lines[at:at] = before + block + after


def _change(lines: list[str], found: list[Section], path: Path, values: Values) -> None:
    """Change, in place, only the keys whose value differs."""
    import tomlkit

    own = [section for section in found if section.path == path]
    if not own:
        raise LookupError(path)
    before: Any = tomllib.loads("".join("".join(lines[section.header : section.end]) for section in found))
    for key in path:
        before = before[key]
    body = tomlkit.parse("".join(lines[own[0].header : own[0].end]))
    table: Any = body
    for key in path:
        table = table[key]
    changed = _assign(table, before, values)
    for section in reversed(found):
        if section is own[0]:
            lines[section.header : section.end] = _lines(body.as_string())
        elif section.path[len(path)] in changed:
            _cut(lines, section)


def _assign(table: Any, before: Values, values: Values) -> set[str]:
    """Set only the keys of a tomlkit table whose values are not as ``before``, and return them."""
    changed = {key for key in {*before, *values} if key not in values or not _equal(before.get(key), values[key])}
    for key in [key for key in before if key in changed and key in table and key not in values]:
        del table[key]
    for key in [key for key in values if key in changed]:
        old, new = before.get(key), values[key]
        if key in table and isinstance(old, list) and isinstance(new, list) and _equal(old, new[: len(old)]):
            # between its items may be comments
            table[key].extend(new[len(old) :])
        else:
            table[key] = _item(new)
    return changed


def _equal(left: object, right: object) -> bool:
    return type(left) is type(right) and repr(left) == repr(right)


def _item(value: Any) -> Any:
    """Return ``value`` as a tomlkit item, tables always inline."""
    import tomlkit

    return tomlkit.value(write(value, ascii_only=False))


def _lines(text: str) -> list[str]:
    """Return the lines with their ends; unlike for str.splitlines, only LF ends a line of TOML."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _ended(lines: list[str], newline: str) -> str:
    """Return the whole text, in which a line may be new."""
    if newline == "\n":
        return "".join(lines)
    return "".join(line.rstrip("\r\n") + newline if line.endswith("\n") else line for line in lines)
