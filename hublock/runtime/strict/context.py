"""Where this process stands: the loads under way, for which of them a thread or task works, whose program it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hublock.runtime.strict.scope import Scope


@dataclass(frozen=True, slots=True)
class Following:
    """In a thread or job that a scope has started."""

    scope: "Scope"
    in_library: bool
    """Whether a library has, which may keep the thread, and give it jobs of others later."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """In a process that a load has started anew: its frames say less, as all that runs there is a job of the load."""

    scope: "Scope"


@dataclass(slots=True)
class _Process:
    program_of: "Scope | None" = None
    """The scope of which all is part that runs in this process, if it is a program that a load has started."""


PROCESS = _Process()
OUTSIDE = object()
"""Our own work on behalf of foreign code."""
current_scope: "ContextVar[Scope | Following | Inherited | object | None]" = ContextVar("hublock_scope", default=None)
namespaces: "dict[str, dict[str, Scope]]" = {}
"""The scopes of every repository, by their owners; of loads under way, by their folders."""
under_way: "list[Scope]" = []
ended: dict[str, int] = {}
"""Up to where the notes of processes were known to a load as it ended."""
spoilt: dict[str, set[str]] = {}
"""The packages whose code was refused a file after the load: later loads that fetch it need other modules."""


@contextmanager
def outside() -> Iterator[None]:
    """Step out of any scope: for our own work on behalf of foreign code."""
    token = current_scope.set(OUTSIDE)
    try:
        yield
    finally:
        current_scope.reset(token)
