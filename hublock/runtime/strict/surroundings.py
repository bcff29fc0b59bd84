"""What is process-wide and must be after a load as it was before: arguments, environment, directory, torch.hub.

Only what foreign code itself changes is put back, so a thread that changes its environment meanwhile keeps its change.
``sys.argv`` and torch.hub's attributes raise no event when they are changed: of several loads at once the last one
to end puts them back.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hublock.runtime import isolation
from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.strict.frames import importing_package
from hublock.runtime.strict.scope import Scope, loading
from hublock.runtime.strict.swap import Function

_lock = ForkSafeLock()
_loads = 0
_argv: list[str] = []
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Keeps every Python that a load starts from writing beside the files of a tree, as while it was traced."""
_bytecode: str | None = None
_hub: dict[str, Any] = {}
_Before = list[tuple[Scope, str | None]]
"""Which loads changed one thing, in that order, and what it was before each of them did."""
_environ: dict[str, _Before] = {}
_cwd: _Before = []
_made: dict[str, dict[str, str | None]] = {}
"""What modules changed as they were imported, by their package: variables, and as an empty name the directory."""


@contextmanager
def kept(scope: Scope) -> Iterator[None]:
    """Run a load with an empty ``sys.argv``, and put back what it changes, however it ends."""
    _begin()
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        _end()
        _restore(scope)
        _clean_path(scope, path)
        new = sys.modules.keys() - modules
        for package in scope.packages.values():
            isolation.take_in(package, new)


def before_chdir(scope: Scope, folder: Any) -> None:
    """Remember the current directory, which foreign code is about to leave for ``folder``."""
    package = importing_package()
    with _lock:
        _note(_cwd, scope, os.getcwd())  # noqa: PTH109 - what os.chdir is given back
        if package is not None:
            _made.setdefault(package, {})[""] = os.path.abspath(os.fsdecode(folder))  # noqa: PTH100


def before_putenv(scope: Scope, name: str, value: str | None) -> None:
    """Remember an environment variable, to which foreign code is about to give ``value``."""
    package = importing_package()
    with _lock:
        _note(_environ.setdefault(name, []), scope, os.environ.get(name))  # noqa: TID251 - only to be put back
        if package is not None:
            _made.setdefault(package, {})[name] = value


def make_again(package: str) -> None:
    """Do once more, for a load that uses modules that are imported already, what they did as they were imported."""
    with _lock:
        changes = dict(_made.get(package, {}))
    folder = changes.pop("", None)
    for name, value in changes.items():
        _set(name, value)
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)


def _note(before: _Before, scope: Scope, value: str | None) -> None:
    if all(other is not scope for other, _ in before):
        before.append((scope, value))


def _taken_back(before: _Before, scope: Scope) -> list[str | None]:
    """Return what must be put back as ``scope`` ends: nothing if a load that goes on has changed it since."""
    for number, (other, value) in enumerate(before):
        if other is scope:
            del before[number]
            if number == len(before):
                return [value]
            before[number] = before[number][0], value
    return []


def _begin() -> None:
    global _loads, _argv, _bytecode  # noqa: PLW0603 - they are process-wide
    import torch.hub

    with _lock:
        _loads += 1
        if _loads == 1:
            _argv = sys.argv
            sys.argv = [""]
            _bytecode = os.environ.get(_NO_BYTECODE)  # noqa: TID251 - only to be put back
            _set(_NO_BYTECODE, "1")
            _hub.update(vars(torch.hub))


def _end() -> None:
    global _loads  # noqa: PLW0603 - sys.argv is process-wide
    import torch.hub

    with _lock:
        _loads -= 1
        if _loads == 0:
            sys.argv = _argv
            if _bytecode is None:
                _set(_NO_BYTECODE, None)
            _restore_hub(vars(torch.hub))
            _hub.clear()


def _end_in_child() -> None:
    """Put back in a forked child what loads of other threads, which are not there, would."""
    global _loads  # noqa: PLW0603 - sys.argv is process-wide
    if _loads and loading() is None:
        _loads = 1
        _end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_in_child)


def heeding(set_dir: Function) -> Function:
    """Make torch.hub's ``set_dir``, which only the user's own code reaches, stand when a load beside it ends."""

    def heeded(*args: Any, **kwargs: Any) -> None:
        import torch.hub

        set_dir(*args, **kwargs)
        with _lock:
            if _hub:
                _hub["_hub_dir"] = vars(torch.hub)["_hub_dir"]

    return heeded


def _restore_hub(now: dict[str, Any]) -> None:
    """Undo assignments to torch.hub's attributes."""
    for name in now.keys() - _hub.keys():
        del now[name]
    for name, value in _hub.items():
        if now.get(name, _hub) is not value:
            now[name] = value


def _restore(scope: Scope) -> None:
    with _lock:
        folders = _taken_back(_cwd, scope)
        values = {name: _taken_back(before, scope) for name, before in _environ.items()}
    for folder in filter(None, folders):
        os.chdir(folder)
    for name, value in [(name, value) for name, found in values.items() for value in found]:
        _set(name, value)


def _set(name: str, value: str | None) -> None:
    environ = os.environ  # noqa: TID251 - not read: what foreign code changed is put back, or made again
    if value is None:
        environ.pop(name, None)
    else:
        environ[name] = value


def _clean_path(scope: Scope, before: list[str]) -> None:
    """Take the folders of the load out of the real ``sys.path``, which code reaches by a detour (``os.sys``)."""
    own = tuple(str(repository.root) for repository in scope.repositories)
    if any(str(entry).startswith(own) for entry in sys.path):
        sys.path[:] = [entry for entry in sys.path if entry in before or not str(entry).startswith(own)]
