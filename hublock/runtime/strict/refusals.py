"""What foreign code asked for and did not get, and how a child process tells the load that started it."""

import json
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path

from hublock import errors
from hublock.errors import HublockError

PARENTS_NOTES = "hublock_notes"
"""What tells a process of ``multiprocessing``, by whatever method it was started, where its load will look."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Something foreign code asked for and did not get."""

    what: str
    """``https://host`` or ``subprocess:name`` (which a lock may tolerate), or ``file:name``."""
    error: HublockError
    file: str = ""
    """The address of the file that the code would have loaded, if it was one."""


by_library: dict[str, str] = {}
"""What installed libraries were refused in this process, by their names: one may keep what it took instead."""


def write_down(refusal: Refusal, notes: Path) -> None:
    """Append a refusal to ``notes``; nobody waits for it where their folder is gone."""
    error = refusal.error
    row = [refusal.what, refusal.file, type(error).__name__, error.message, error.hint]
    with suppress(FileNotFoundError), notes.open("a", encoding="ascii") as file:
        file.write(f"{json.dumps(row)}\n")


def take(notes: Path) -> list[Refusal]:
    """Return what was written down in ``notes``, and forget it."""
    found = []
    with suppress(FileNotFoundError):
        for line in notes.read_text(encoding="ascii").splitlines():
            what, file, kind, message, hint = json.loads(line)
            found.append(Refusal(what=what, error=vars(errors)[kind](message, hint=hint), file=file))
        notes.unlink()
    return found


def parents_notes() -> Path | None:
    """Return where the load that started this process looks, if one did."""
    told = vars(current_process())["_config"].get(PARENTS_NOTES)
    return Path(told) if told else None
