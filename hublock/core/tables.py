"""Typed readers of parsed TOML: every value knows its address, so every refusal is one sentence that names it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from hublock.core.nearest import nearest
from hublock.errors import HublockError

T = TypeVar("T")
Rule = Callable[["Cell"], T]
"""Reads one cell, or raises its refusal."""

LONGEST = 16384
"""The longest string that is not an argument, in characters."""

SHOWN = 80
"""How much of a string a message shows, in characters."""
BARE = re.compile(r"[A-Za-z0-9_-]+")
"""A part of a key that needs no quotes."""
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a float"),
    (list, "an array"),
    (dict, "a table"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A TOML file, and how what is wrong in it is told."""

    file: str
    """Its name in messages."""
    refusal: type[HublockError]
    hint: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a TOML file and its address."""

    value: object
    source: Source
    above: "Cell | None" = None
    step: str | int = ""
    """The key or index that leads here from ``above``."""

    @property
    def path(self) -> str:
        """Such as ``repo[1].model[0].weights``; empty for the whole file."""
        if self.above is None:
            return ""
        before = self.above.path
        if isinstance(self.step, int):
            return f"{before}[{self.step}]"
        name = self.step if BARE.fullmatch(self.step) and len(self.step) <= SHOWN else quote(self.step)
        return f"{before}.{name}" if before else name

    def refuse(self, problem: str, *, hint: str | None = None) -> HublockError:
        """Return the error that says what is wrong here; the caller raises it."""
        path = self.path
        where = f"{self.source.file}: {path}: " if path else f"{self.source.file}: "
        return self.source.refusal(where + problem, hint=hint or self.source.hint)

    def at(self, step: str | int, value: object) -> "Cell":
        """Return the cell below this one."""
        return Cell(value, self.source, self, step)

    def members(self) -> dict[str, "Cell"]:
        """Return the cells of a table by their key."""
        if not isinstance(self.value, dict):
            raise self._mistyped("a table")
        return {key: self.at(key, value) for key, value in self.value.items()}

    def items(self) -> list["Cell"]:
        """Return the cells of an array."""
        if not isinstance(self.value, list):
            raise self._mistyped("an array")
        return [self.at(index, value) for index, value in enumerate(self.value)]

    def _mistyped(self, expected: str) -> HublockError:
        return self.refuse(f"expected {expected}, found {kind_of(self.value)}")


def quote(text: str) -> str:
    """Return ``text`` in double quotes, safe to print: escaped where needed and cut to :data:`SHOWN` characters."""
    shown = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    body = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in shown.replace("\\", "\\\\"))
    return '"' + body.replace('"', '\\"') + '"'


def kind_of(value: object) -> str:
    """Name the TOML type of ``value``, with its article."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "a date or time")


def text(cell: Cell) -> str:
    """Read a string that is neither empty nor absurdly long."""
    if not isinstance(cell.value, str):
        raise cell._mistyped("a string")
    if not cell.value:
        raise cell.refuse("must not be empty")
    if len(cell.value) > LONGEST:
        raise cell.refuse(f"must be at most {LONGEST} characters long")
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
        seen: set[T] = set()
        for value, item in zip(values, cell.items(), strict=True):
            if value in seen:
                raise item.refuse("is there twice")
            seen.add(value)
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
    known = dict(given or {})
    names = {(keys or {}).get(name, name.replace("_", "-")): name for name in rules}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]

    def rule(cell: Cell) -> T:
        cells = cell.members()
        for key, below in cells.items():
            if key not in names:
                raise below.refuse(f"unknown key{nearest(key, names)}")
        for key, name in names.items():
            if name in needed and name not in known and key not in cells:
                raise cell.at(key, None).refuse("is missing")
        return kind(**known | {name: rules[name](cells[key]) for key, name in names.items() if key in cells})

    return rule
