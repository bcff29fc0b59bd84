"""What foreign code asked for and did not get."""

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from hublock.core.digest import Digest
from hublock.errors import HublockError, UnlockedDownload


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
        add = f"hublock add {_quoted(owner)} --input PATH, if this file is yours"
        return f"{add}; hublock lock --retrace NAME, if it is the input of a locked model and was changed"
    add = f"hublock add {_quoted(owner)} … --tolerate {shlex.quote(what)}, if the model does not need it"
    # nothing is added twice, and a locked model is only traced again when told to be
    line = f'if it is in the manifest, add "{what}" to its tolerate'
    return f"{add}; {line}, then hublock lock, with --retrace NAME where it is locked"


def _quoted(owner: str) -> str:
    """Return the words of ``owner`` as a shell takes them: foreign code may have chosen the repository."""
    repository, _, entrypoint = owner.rpartition(" ")
    return shlex.join(filter(None, (repository, entrypoint)))


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


left_behind: dict[str, list[str]] = {}
"""Files that refused loads of this process have written, a fallback among them, and the files those were refused."""
