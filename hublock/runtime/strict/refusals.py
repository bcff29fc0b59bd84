"""What foreign code asked for and did not get, and how a child process tells the load that started it."""

import json
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path
from urllib.parse import urlsplit

from hublock import errors
from hublock.core.digest import Digest
from hublock.errors import HublockError, UnlockedDownload

ANCESTORS = "hublock_ancestors"
"""What tells a process of ``multiprocessing``, by whatever method it was started, of the loads it descends from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Something foreign code asked for and did not get."""

    what: str
    """``https://host`` or ``subprocess:name`` (which a lock may tolerate), or ``file:name``."""
    error: HublockError
    file: str = ""
    """The address of the file that the code would have loaded, if it was one."""
    owner: str = ""
    """Who was refused it, see ``Scope.owner``."""
    libraries: tuple[str, ...] = ()
    """The installed libraries that asked for it, by their names: one may keep what it took instead."""


class Tolerable:
    """Every refusal that a lock may tolerate."""

    def __contains__(self, what: object) -> bool:
        """Say whether ``what`` is no file, which a model that asks for it needs."""
        return str(what).startswith(("https://", "http://", "subprocess:"))


def origin(url: str) -> str:
    """Return ``scheme://host[:port]``, the form in which a lock tolerates a refusal; user names are left out."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def to_tolerate(what: str, owner: str) -> str:
    """Return how to lock ``owner`` in spite of the refusal of ``what``."""
    if what.startswith("file:"):
        return f"hublock add {owner} --input PATH, if this file is yours"
    add = f"hublock add {owner} … --tolerate {what}, if the model does not need it"
    # nothing is added twice, and a locked model is only traced again when told to be
    line = f'if it is in the manifest, add "{what}" to its tolerate'
    return f"{add}; {line}, then hublock lock, with --retrace NAME where it is locked"


def unlocked(what: str, message: str, owner: str) -> Refusal:
    """Return the refusal of something that ``owner``, as ``message`` goes on, asks for and no lock lists."""
    return Refusal(what=what, error=UnlockedDownload(f"{owner} {message}", hint=to_tolerate(what, owner)), owner=owner)


by_library: dict[str, dict[str, set[str]]] = {}
"""What files installed libraries were refused in this process, and the owners of the loads that were refused them.

An empty string stands for whatever is no file: an input that had changed, a nested repository, a program.
"""
ever_given: set[Digest] = set()
"""Of the files that any load of this process was given: what a library keeps may be one of them."""


def keep(refusal: Refusal) -> None:
    """Remember which libraries may live on with what they took instead."""
    for library in refusal.libraries:
        by_library.setdefault(library, {}).setdefault(refusal.file, set()).add(refusal.owner)


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
class Note:
    """What a process has written down."""

    load: str
    names: tuple[str, ...]
    refusal: Refusal
    end: int
    """Where it ends among the notes, in bytes."""


left_behind: dict[str, list[str]] = {}
"""Files that refused loads of this process have written, a fallback among them, and the files those were refused."""


def write_down(refusal: Refusal, ancestor: Ancestor) -> None:
    """Append a refusal to the notes of ``ancestor``; nobody waits for it where their folder is gone."""
    with suppress(FileNotFoundError), ancestor.notes.open("a", encoding="ascii") as file:
        file.write(f"{as_line(refusal, ancestor)}\n")


def as_line(refusal: Refusal, ancestor: Ancestor) -> str:
    """Return a refusal as it is written down for ``ancestor``."""
    error = refusal.error
    told = (refusal.what, refusal.file, refusal.owner, refusal.libraries)
    return json.dumps([ancestor.load, ancestor.names, told, type(error).__name__, error.message, error.hint])


def written_down(notes: Path, start: int) -> list[Note]:
    """Return what was written down in ``notes`` after their first ``start`` bytes."""
    found = []
    with suppress(FileNotFoundError), notes.open("rb") as file:
        file.seek(start)
        # the last line may still be written
        for line in file.read().splitlines(keepends=True):
            if line.endswith(b"\n"):
                start += len(line)
                load, names, (what, address, owner, libraries), kind, message, hint = json.loads(line)
                error = vars(errors)[kind](message, hint=hint)
                refusal = Refusal(what=what, error=error, file=address, owner=owner, libraries=tuple(libraries))
                found.append(Note(load=load, names=tuple(names), refusal=refusal, end=start))
    return found


def ancestors() -> tuple[Ancestor, ...]:
    """Return the loads that this process descends from."""
    found: tuple[Ancestor, ...] = vars(current_process())["_config"].get(ANCESTORS, ())
    return found
