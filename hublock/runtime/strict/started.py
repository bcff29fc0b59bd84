"""Threads, jobs of pools and processes that a load starts: what they are refused, the load is refused."""

import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from hublock.core.cached import cached
from hublock.runtime.answers import Answers, LockedAnswers
from hublock.runtime.strict.frames import responsible
from hublock.runtime.strict.notes import ANCESTORS, ancestors
from hublock.runtime.strict.scope import Scope, outside
from hublock.runtime.strict.swap import Function


def bound(scope: Scope, function: Function) -> Function:
    """Return ``function`` such that it runs inside ``scope``, wherever it is called."""
    libraries = responsible()

    def inside(*args: Any, **kwargs: Any) -> Any:
        with scope.followed(libraries):
            return function(*args, **kwargs)

    return inside


def start_thread(scope: Scope, original: Function, thread: threading.Thread) -> None:
    """Start a thread from inside a scope: it runs inside too."""
    run, libraries = thread.run, responsible()

    def inside() -> None:
        del thread.run  # the instance's attribute, so that nothing of us stays on it
        with scope.followed(libraries, in_library=bool(libraries)):
            run()

    thread.run = inside  # type: ignore[method-assign]
    original(thread)


def submit(scope: Scope, original: Function, pool: object, function: Function, /, *args: Any, **kwargs: Any) -> Any:
    """Hand a job to a thread pool from inside a scope: the job runs inside, a thread the pool adds for it does not."""
    with outside():
        return original(pool, bound(scope, function), *args, **kwargs)


def make_pool(
    scope: Scope, original: Function, pool: object, most: Any, prefix: Any, initializer: Any, *args: Any, **kwargs: Any
) -> None:
    """Make a thread pool inside a scope: what its threads begin with runs inside."""
    original(pool, most, prefix, bound(scope, initializer) if callable(initializer) else initializer, *args, **kwargs)


def call_when_done(scope: Scope, original: Function, future: object, fn: Function) -> None:
    """Add a callback to a job from inside a scope: it runs inside, in whatever thread."""
    original(future, bound(scope, fn))


def hand_over(scope: Scope, original: Function, pool: Any, func: Function, *args: Any, **kwargs: Any) -> Any:
    """Hand jobs to a pool of ``multiprocessing`` from inside a scope: where its workers are threads, they run inside.

    A process has its scope from its start.
    """
    is_inside = isinstance(pool, sys.modules["multiprocessing.pool"].ThreadPool)
    return original(pool, bound(scope, func) if is_inside else func, *args, **kwargs)


def starting(arrive: Callable[..., None]) -> Function:
    """Return what answers the start of a process of ``multiprocessing`` from inside a scope: its jobs are inside too.

    A forked process is inside by itself; any other calls ``arrive``, with what makes a scope, before its first job.
    """

    def start_process(scope: Scope, original: Function, process: Any) -> None:
        process._config[ANCESTORS] = (*process._config.get(ANCESTORS, ()), scope.as_ancestor)
        process._config[_ARRIVAL] = Arrival(arrive, scope)
        original(process)

    return start_process


_ARRIVAL = "hublock_arrival"
_INHERITED = (
    "folder",
    "hub_dir",
    "private_hub",
    "owner",
    "cpu_only",
    "mmap",
    "names",
    "own_folder",
    "tolerated",
    "as_locked",
    "saved",
)


class Arrival:
    """Something that a new process unpickles, together with its job if it has one, to be in ``scope`` from then on."""

    def __init__(self, arrive: Callable[..., None], scope: Scope, *, is_program: bool = False) -> None:
        """Let it call ``arrive``; of a program all is in ``scope``."""
        self._arrive, self._scope, self._is_program = arrive, scope, is_program

    def __reduce__(self) -> Any:
        scope = self._scope
        inherited = {name: getattr(scope, name) for name in _INHERITED}
        if scope.answers not in _pickled:
            _pickled[scope.answers] = pickle.dumps(scope.answers)
        inherited["answers"] = _Later(_pickled[scope.answers])
        roots = {repository.root for repository in scope.repositories}
        # folders of the user's own and folders inside a tree; and all while a lock is only being made
        not_in_any_lock = [
            repository
            for repository in scope.repositories
            if repository.is_users_own
            or not roots.isdisjoint(repository.root.parents)
            or not isinstance(scope.answers, LockedAnswers)
        ]
        lineage = (*ancestors(), scope.as_ancestor) if self._is_program else ()
        return self._arrive, (inherited, not_in_any_lock, lineage, scope.is_after_load)


_pickled: "WeakKeyDictionary[Answers, bytes]" = WeakKeyDictionary()
"""Answers whose lock may be long, and which start many processes."""


class _Later:
    """Answers that are unpickled when they are first asked: most processes never do."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> Any:
        return _Later, (self._pickled,)

    @cached
    def _answers(self) -> Any:
        return pickle.loads(self._pickled)  # noqa: S301 - the load has written it

    def __getattr__(self, question: str) -> Any:
        return getattr(self._answers, question)
