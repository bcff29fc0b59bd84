"""What processes that a load starts write down for it: what they were refused, and what they leave for it to find."""

import json
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path

from hublock import errors
from hublock.core.digest import Digest
from hublock.runtime.strict.refusals import Refusal

ANCESTORS = "hublock_ancestors"
"""What tells a process of ``multiprocessing``, by whatever method it was started, of the loads it descends from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ancestor:
    """A load as the processes that it starts know it; they may outlive it, and work for later ones."""

    notes: Path
    """Where they write down what they are refused, for all loads of the process that started them."""
    load: str
    """Tells the load from others of that process."""
    names: tuple[str, ...]
    """The namespaces of its repositories."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What one note tells."""

    refusal: Refusal | None = None
    written: tuple[str, ...] = ()
    """Files that it has made, or emptied to write them: told when it was refused something, and at its end."""
    saved: Digest | None = None
    """Of a file that it wrote with ``torch.save``."""
    answered: str | None = None
    """The address of a file that it was given."""
    given: Digest | None = None
    """Of a file that it was given."""
    by_program: bool = False
    """Whether it is of a program: what its libraries keep goes with it."""
    after_load: bool = False
    """Whether it is of a program that was started after its load had ended, which works for no other load."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What a process has written down."""

    load: str
    names: tuple[str, ...]
    told: Told
    end: int
    """Where it ends among the notes, in bytes."""


def write_down(told: Told, ancestor: Ancestor) -> None:
    """Append to the notes of ``ancestor``; nobody waits for it where their folder is gone."""
    with suppress(FileNotFoundError), ancestor.notes.open("a", encoding="ascii") as file:
        file.write(f"{as_line(told, ancestor)}\n")


def as_line(told: Told, ancestor: Ancestor) -> str:
    """Return what is written down for ``ancestor``."""
    refusal = told.refusal
    digests = [str(digest) if digest else None for digest in (told.saved, told.given)]
    row = [ancestor.load, ancestor.names, told.written, *digests, told.answered, told.by_program, told.after_load]
    if refusal is not None:
        error = refusal.error
        row += [refusal.what, refusal.file, refusal.owner, refusal.libraries]
        row += [type(error).__name__, error.message, error.hint]
    return json.dumps(row)


def written_down(notes: Path, start: int) -> list[Note]:
    """Return what was written down in ``notes`` after their first ``start`` bytes."""
    found = []
    with suppress(FileNotFoundError), notes.open("rb") as file:
        file.seek(start)
        # the last line may still be written
        for line in file.read().splitlines(keepends=True):
            if line.endswith(b"\n"):
                start += len(line)
                load, names, written, saved, given, answered, by_program, after_load, *refused = json.loads(line)
                told = Told(
                    refusal=_refusal(*refused) if refused else None,
                    written=tuple(written),
                    saved=Digest.parse(saved) if saved else None,
                    answered=answered,
                    given=Digest.parse(given) if given else None,
                    by_program=by_program,
                    after_load=after_load,
                )
                found.append(Note(load=load, names=tuple(names), told=told, end=start))
    return found


def _refusal(what: str, file: str, owner: str, libraries: list[str], kind: str, *said: str) -> Refusal:
    message, hint = said
    error = vars(errors)[kind](message, hint=hint)
    return Refusal(what=what, error=error, file=file, owner=owner, libraries=tuple(libraries))


def ancestors() -> tuple[Ancestor, ...]:
    """Return the loads that this process descends from."""
    found: tuple[Ancestor, ...] = vars(current_process())["_config"].get(ANCESTORS, ())
    return found
