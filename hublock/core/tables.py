"""Typed readers of parsed TOML: every value knows its address, so every refusal is one sentence that names it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

from hublock.errors import HublockError

T = TypeVar("T")
Rule = Callable[["Cell"], T]
"""Reads one cell, or raises its refusal."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a float"),
    (list, "an array"),
    (dict, "a table"),
)


class Refusal(Protocol):
    """A class of errors, such as InvalidLock."""

    def __call__(self, message: str, *, hint: str | None = None) -> HublockError:
        """Make one error."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One value of a TOML file and its address."""

    value: object
    file: str
    path: str = ""
    """Such as ``repo[1].model[0].weights``; empty for the whole file."""
    refusal: Refusal
    hint: str

    def refuse(self, problem: str, *, hint: str | None = None) -> HublockError:
        """Return the error that says what is wrong here; the caller raises it."""
        where = f"{self.file}: {self.path}: " if self.path else f"{self.file}: "
        return self.refusal(where + problem, hint=hint or self.hint)

    def at(self, key: str, value: object) -> "Cell":
        """Return the cell below this one."""
        name = key if _BARE.fullmatch(key) else quote(key)
        return replace(self, value=value, path=f"{self.path}.{name}" if self.path else name)

    def members(self) -> dict[str, "Cell"]:
        """Return the cells of a table by their key."""
        if not isinstance(self.value, dict):
            raise self._mistyped("a table")
        return {key: self.at(key, value) for key, value in self.value.items()}

    def items(self) -> list["Cell"]:
        """Return the cells of an array."""
        if not isinstance(self.value, list):
            raise self._mistyped("an array")
        return [replace(self, value=value, path=f"{self.path}[{at}]") for at, value in enumerate(self.value)]

    def _mistyped(self, expected: str) -> HublockError:
        return self.refuse(f"expected {expected}, found {kind_of(self.value)}")


def quote(text: str, limit: int = 80) -> str:
    """Return ``text`` in double quotes, safe to print: escaped where needed and cut to ``limit`` characters."""
    shown = text if len(text) <= limit else text[:limit] + "…"
    body = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in shown.replace("\\", "\\\\"))
    return '"' + body.replace('"', '\\"') + '"'


def kind_of(value: object) -> str:
    """Name the TOML type of ``value``, with its article."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "a date or time")


def text(cell: Cell) -> str:
    """Read a string that is not empty."""
    if not isinstance(cell.value, str):
        raise cell._mistyped("a string")
    if not cell.value:
        raise cell.refuse("must not be empty")
    return cell.value


def boolean(cell: Cell) -> bool:
    """Read a boolean."""
    if not isinstance(cell.value, bool):
        raise cell._mistyped("a boolean")
    return cell.value


def integer(lowest: int, highest: int = 2**63 - 1) -> Rule[int]:
    """Read an integer within two bounds, both included."""

    def rule(cell: Cell) -> int:
        if not isinstance(cell.value, int) or isinstance(cell.value, bool):
            raise cell._mistyped("an integer")
        if not lowest <= cell.value <= highest:
            raise cell.refuse(f"must be {f'at least {lowest}' if cell.value < lowest else f'at most {highest}'}")
        return cell.value

    return rule


def one_of(*choices: str) -> Rule[str]:
    """Read one of a few words."""
    *most, last = map(quote, choices)
    expected = f"{', '.join(most)} or {last}"

    def rule(cell: Cell) -> str:
        value = text(cell)
        if value not in choices:
            raise cell.refuse(f"expected {expected}, found {quote(value)}")
        return value

    return rule


def matching(pattern: re.Pattern[str], expected: str) -> Rule[str]:
    """Read a string that follows ``pattern`` as a whole; ``expected`` is what the refusal asks for."""

    def rule(cell: Cell) -> str:
        value = text(cell)
        if not pattern.fullmatch(value):
            raise cell.refuse(f"expected {expected}, found {quote(value)}")
        return value

    return rule


def array(rule: Rule[T]) -> Rule[tuple[T, ...]]:
    """Read an array, each item by ``rule``."""
    return lambda cell: tuple(rule(item) for item in cell.items())


def distinct(rule: Rule[T]) -> Rule[tuple[T, ...]]:
    """Read an array that holds nothing twice, each item by ``rule``."""

    def read(cell: Cell) -> tuple[T, ...]:
        values = array(rule)(cell)
        for at, item in enumerate(cell.items()):
            if values[at] in values[:at]:
                raise item.refuse("is there twice")
        return values

    return read


def record(
    kind: type[T],
    *,
    keys: Mapping[str, str] | None = None,
    given: Mapping[str, object] | None = None,
    **rules: Rule[Any],
) -> Rule[T]:
    """Read a table into the dataclass ``kind``: a rule for each field, and nothing else.

    A key is its field in kebab-case unless ``keys`` says otherwise; a field that has neither a default nor a ``given``
    value is required.
    """
    known_before = dict(given or {})
    names = {(keys or {}).get(name, name.replace("_", "-")): name for name in rules}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]

    def rule(cell: Cell) -> T:
        cells = cell.members()
        known(cells, names)
        for key, name in names.items():
            if name in needed and name not in known_before and key not in cells:
                raise cell.at(key, None).refuse("is missing")
        return kind(**known_before | {name: rules[name](cells[key]) for key, name in names.items() if key in cells})

    return rule


def known(cells: Mapping[str, Cell], names: Iterable[str]) -> None:
    """Refuse the first key that is none of ``names``, offering the nearest."""
    expected = list(names)
    for key, cell in cells.items():
        if key not in expected:
            near = get_close_matches(key, expected, n=1)
            raise cell.refuse(f"unknown key; did you mean {near[0]}" if near else "unknown key")
