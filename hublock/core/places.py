"""On which line of a lock an entry stands, for whoever shows findings beside the text."""

import tomllib
from collections.abc import Iterator
from typing import Any

from hublock.core.inventory import hugging_face_file

_KEYS = ("id = ", "name = ", "url = ")


def places(text: str) -> dict[str, int]:
    """Return the first line, counted from 1, of each repository, model, weights and file of a canonical lock.

    Repositories are known by their id, models and weights by their name, files by their URL or path; a lock that is
    not canonical gives what can be told.
    """
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for name in _names(line):
            found.setdefault(name, number)
    return found


def _names(line: str) -> Iterator[str]:
    stripped = line.strip()
    if line.startswith(_KEYS):
        yield from (value for value in _parsed(stripped).values() if isinstance(value, str))
    elif stripped.startswith("{"):
        row: Any = _parsed(f"row = {stripped.rstrip(',')}").get("row")
        if isinstance(row, dict):
            yield from _row_names(row)


def _row_names(row: dict[str, Any]) -> Iterator[str]:
    if {"repo", "type", "commit", "file"} <= row.keys():
        yield hugging_face_file(*(str(row[key]) for key in ("repo", "type", "commit", "file")))
    elif "url" in row and row.keys() & {"digest", "method"}:
        yield str(row["url"])
    elif "name" in row:
        yield str(row["name"])


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
