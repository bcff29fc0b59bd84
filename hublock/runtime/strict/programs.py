"""Programs that a load starts: a Python among them joins the load, and a shell finds stand-ins for what fetches.

A program gets both by its environment, whatever started it: a folder whose ``sitecustomize`` every Python imports first
(see ``hublock.startup``), and a folder in front of ``PATH``. Pythons that read no environment (``python -I``), programs
that are named by their whole path, and sockets of other programs are not seen.
"""

import functools
import inspect
import os
import pickle
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

from hublock.runtime import startup
from hublock.runtime.strict import guard
from hublock.runtime.strict.dispatching import dispatching
from hublock.runtime.strict.refusals import ancestors, as_line, unlocked
from hublock.runtime.strict.scope import Scope, outside
from hublock.runtime.strict.started import Arrival
from hublock.runtime.strict.swap import Function, swap

ARRIVAL = "HUBLOCK_ARRIVAL"
"""Names the file that takes a Python into the load that has started it."""


def install(arrive: Callable[..., None]) -> None:
    """Exchange what starts programs; a Python that a load starts calls ``arrive`` with what makes a scope."""
    starting = _Starting(arrive)
    swap(subprocess.Popen.__init__, dispatching(starting.popen))
    answers: dict[str, Function] = {
        "system": starting.system,
        "execv": starting.execv,
        "execve": starting.with_environment,
        "posix_spawn": starting.with_environment,
        "posix_spawnp": starting.with_environment,
    }
    for name, answer in answers.items():
        original = getattr(os, name, None)
        # these have no code that could be exchanged
        if isinstance(original, BuiltinFunctionType):
            instead = functools.wraps(original)(dispatching(answer)(original))
            instead.__module__ = "os"
            setattr(os, name, instead)


class _Starting:
    """Answers what starts a program inside a scope: as it was asked for, but for the environment."""

    def __init__(self, arrive: Callable[..., None]) -> None:
        self._arrive = arrive

    def popen(self, scope: Scope, original: Function, popen: Any, *args: Any, **options: Any) -> None:
        given = inspect.signature(original).bind(popen, *args, **options)
        given.arguments["env"] = self._environment(scope, given.arguments.get("env"))
        original(*given.args, **given.kwargs)

    def system(self, scope: Scope, original: Function, command: Any) -> Any:
        if os.name == "nt":
            return original(command)
        guard.check_program(scope, ["sh", "-c", command])
        added = self._environment(scope, None).items() - dict(os.environ).items()  # noqa: TID251 - only handed on
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(added))
        with outside():
            return original(f"export {exports}\n{os.fsdecode(command)}")

    def execv(self, scope: Scope, _original: Function, path: Any, argv: Any) -> None:
        os.execve(path, argv, self._environment(scope, None))  # noqa: S606 - what the code has asked for

    def with_environment(self, scope: Scope, original: Function, path: Any, argv: Any, env: Any, **options: Any) -> Any:
        return original(path, argv, self._environment(scope, env), **options)

    def _environment(self, scope: Scope, given: Mapping[Any, Any] | None) -> dict[str, str]:
        """Return the environment of a program: as ``given``, else ours, and what takes it into ``scope``."""
        environ = os.environ if given is None else given  # noqa: TID251 - only handed on
        found = {os.fsdecode(name): os.fsdecode(value) for name, value in environ.items()}
        with outside():
            folder = _folder(scope, Arrival(self._arrive, scope, is_program=True))
        found[ARRIVAL] = str(folder / "arrival")
        found["PYTHONPATH"] = startup.put_first(startup.FOLDER, found.get("PYTHONPATH", ""))
        # or it writes beside the files of a tree
        found["PYTHONDONTWRITEBYTECODE"] = "1"
        if os.name == "posix":
            found["PATH"] = startup.put_first(str(folder / "bin"), found.get("PATH", os.defpath))
        return found


def _folder(scope: Scope, arrival: Arrival) -> Path:
    """Return the folder with what programs of ``scope`` find: the scope as it is now, and stand-ins."""
    folder = scope.folder.with_name(f"{scope.folder.name}-programs")
    if not folder.is_dir():
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        (made / "bin").mkdir()
        for name in guard.PROGRAMS if os.name == "posix" else ():
            stand_in = made / "bin" / name
            stand_in.write_text(_stand_in(scope, name), encoding="utf-8")
            stand_in.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            # another thread was faster
            shutil.rmtree(made)
    descriptor, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        pickle.dump(arrival, file)
    Path(name).replace(folder / "arrival")
    return folder


def _stand_in(scope: Scope, name: str) -> str:
    """Return a script that notes down for ``scope``, and those it descends from, that ``name`` was refused."""
    refusal = unlocked(f"subprocess:{name}", f"tries to run {name}", scope.owner)
    notes = [
        f"printf '%s\\n' {shlex.quote(as_line(refusal, known))} >>{shlex.quote(str(known.notes))}"
        for known in {*ancestors(), scope.as_ancestor}
    ]
    said = shlex.quote(f"hublock: {refusal.error.message}")
    return "\n".join(["#!/bin/sh", *notes, f"printf '%s\\n' {said} >&2", "exit 1", ""])
