"""What is process-wide and must be after a load as it was before: arguments, environment, directory.

Only what foreign code itself changes is put back, so a thread that changes its environment meanwhile keeps its change.
An assignment to ``sys.argv`` raises no event: of several loads at once the last one to end puts it back. What modules
change as they are imported, once per process, is made again for later loads of them; what an installed library changes
then stays, as it is imported for everybody.
"""

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hublock.runtime import isolation
from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.strict.arguments import Arguments
from hublock.runtime.strict.callers import answering, loading
from hublock.runtime.strict.frames import importing_library
from hublock.runtime.strict.made import forget, importing, made_by
from hublock.runtime.strict.randomness import random_state
from hublock.runtime.strict.scope import Scope

_lock = ForkSafeLock()
_open: list[Scope] = []
"""The loads under way, and the imports that are kept as one."""
_argv: list[str] = []
_environ = os.environ  # noqa: TID251 - code may put another one in its place
_Before = list[tuple[Scope, str | None]]
"""Which loads changed one thing, in that order, and what it was before each of them did."""
_CWD = ""
"""The current directory, among the names of variables: none of them is empty."""
_changed: dict[str, _Before] = {}
_about: dict[str, tuple[Scope, str | None, str | None]] = {}
"""Which load was last about to change one thing, from what to what: events come before what they tell of."""


@contextmanager
def kept(scope: Scope, packages: Collection[str]) -> Iterator[None]:
    """Run a load, for which ``sys.argv`` is empty, and put back what it changes, however it ends.

    ``packages`` are those below which it finds its modules.
    """
    path, modules = list(sys.path), set(sys.modules)
    _begin(scope)
    try:
        yield
    finally:
        _end(scope)
        _restore(scope)
        _clean_path(scope, packages, path)
        new = sys.modules.keys() - modules
        for package in packages:
            isolation.take_in(package, new)


@contextmanager
def kept_without_load(package: str) -> Iterator[None]:
    """Import the hubconf.py of ``package`` where no load does, as for an unpickling: keep what it changes as well.

    Under torch.hub it would not run at all, so the random numbers that follow are the same, too.
    """
    scope = answering(package, is_users=True)
    if scope is None or scope in _open or loading() is not None:
        yield
        return
    put_back = random_state()
    try:
        with kept(scope, [package]):
            yield
    except BaseException:
        forget(package)
        raise
    finally:
        put_back()


def before_chdir(scope: Scope, folder: Any) -> None:
    """Remember the current directory, which foreign code is about to leave for ``folder``."""
    if scope not in _open or importing_library():
        return
    with _lock:
        here = _note(scope, _CWD)
        # of an open folder only its number is known
        _about.pop(_CWD, None)
        if not isinstance(folder, int):
            there = os.path.abspath(os.fsdecode(folder))  # noqa: PTH100
            _about[_CWD] = scope, here, there
            _note_made(_CWD, here, there)


def before_putenv(scope: Scope, name: str, value: str | None) -> None:
    """Remember an environment variable, to which foreign code is about to give ``value``."""
    if scope not in _open or importing_library():
        return
    with _lock:
        here = _note(scope, name)
        _about[name] = scope, here, value
        _note_made(name, here, value)


def _note_made(name: str, old: str | None, new: str | None) -> None:
    made = importing()
    if made is not None:
        before, _ = made.variables.get(name, (old, None))
        made.variables[name] = before, new


def make_again(scope: Scope, package: str) -> None:
    """Do once more for a load what the modules of ``package`` did as they were imported for an earlier one.

    What is not any more as they had found it, its user has set since, and it stays.
    """
    with _lock:
        made = made_by(package)
        argv = next((made.argv for made in reversed(made) if made.argv is not None), None)
        hub_dir = next((made.hub_dir for made in reversed(made) if made.hub_dir is not None), None)
        if argv is not None and scope.argv == [""]:
            scope.argv[:] = argv
        if hub_dir is not None and scope.hub_dir == scope.private_hub:
            scope.hub_dir = scope.private_hub / hub_dir
        for name, (before, value) in [change for made in made for change in made.variables.items()]:
            now = _now(name)
            if now in (before, value):
                # also where another load has done it: it stays when that ends
                _note(scope, name)
            if now == before != value:
                with suppress(OSError):
                    _set(name, value)


def _now(name: str) -> str | None:
    if name != _CWD:
        return os.environ.get(name)  # noqa: TID251 - only to be put back
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        # the folder is gone, and nobody gets there again
        return None


def _set(name: str, value: str | None) -> None:
    environ = os.environ  # noqa: TID251 - not read: what foreign code changed is put back, or made again
    if value is None:
        environ.pop(name, None)
    elif name == _CWD:
        os.chdir(value)
    else:
        environ[name] = value


def _note(scope: Scope, name: str) -> str | None:
    """Return what ``name`` is, and remember it if ``scope`` has not changed it yet."""
    now, before = _now(name), _changed.setdefault(name, [])
    if all(other is not scope for other, _ in before):
        _, here, soon = _about.get(name, (scope, None, now))
        is_coming = now == here and (name != _CWD or os.access(os.path.join(soon or "", ""), os.X_OK))  # noqa: PTH118
        before.append((scope, soon if is_coming else now))
    return now


def _taken_back(before: _Before, scope: Scope) -> list[str | None]:
    """Return what must be put back as ``scope`` ends: nothing if a load that goes on has changed it since."""
    for number, (other, value) in enumerate(before):
        if other is scope:
            del before[number]
            if number == len(before):
                return [value]
            before[number] = before[number][0], value
    return []


def _begin(scope: Scope) -> None:
    global _argv, _environ
    with _lock:
        _open.append(scope)
        if len(_open) == 1:
            _argv, _environ = sys.argv, os.environ  # noqa: TID251
            sys.argv = Arguments(_argv)


def _end(*scopes: Scope) -> None:
    with _lock:
        for scope in scopes:
            # a forked child has forgotten it, unless it goes on there
            with suppress(ValueError):
                _open.remove(scope)
        if scopes and not _open:
            sys.argv, os.environ = _argv, _environ  # noqa: TID251


def _end_in_child() -> None:
    """Put back in a forked child what loads of other threads, which are not there, would."""
    own = loading()
    for scope in {scope for before in _changed.values() for scope, _ in before} - {own}:
        _restore(scope)
    _end(*(scope for scope in list(_open) if scope is not own))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_in_child)


def _restore(scope: Scope) -> None:
    # under the lock as well, or a load that begins takes what is about to go for what was before
    with _lock:
        for name, before in sorted(_changed.items(), key=lambda item: item[0]):
            if name in _about and _about[name][0] is scope:
                del _about[name]
            for value in _taken_back(before, scope):
                # of a folder that is gone by now
                with suppress(OSError):
                    _set(name, value)


def _clean_path(scope: Scope, packages: Collection[str], before: list[str]) -> None:
    """Take the folders of the load out of the real ``sys.path``, which code reaches by a detour (``os.sys``)."""
    roots = [os.path.realpath(repository.root) for repository in scope.repositories]
    added = [entry for entry in sys.path if entry not in before and isinstance(entry, str)]
    own = {entry for entry in added if any(Path(os.path.realpath(entry)).is_relative_to(root) for root in roots)}
    if own:
        isolation.keep_path(packages)
        sys.path[:] = [entry for entry in sys.path if entry not in own]
