"""Programs that a load starts: a Python among them joins the load, and a shell finds stand-ins for what fetches.

A program gets both by its environment, whatever started it: a folder whose ``sitecustomize`` every Python imports first
(see ``hublock.startup``), and a folder in front of ``PATH``. Pythons that read no environment (``python -I``), programs
that are named by their whole path, and sockets of other programs are not seen.
"""

import functools
import inspect
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

from hublock.runtime import startup
from hublock.runtime.strict import folders, guard
from hublock.runtime.strict.dispatching import dispatching
from hublock.runtime.strict.notes import Told, ancestors, as_line
from hublock.runtime.strict.refusals import Refusal, unlocked
from hublock.runtime.strict.scope import Scope, outside
from hublock.runtime.strict.started import Arrival
from hublock.runtime.strict.swap import Function, swap

_SHELLS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where shells look for programs whose environment does not say."""
ARRIVAL = "HUBLOCK_ARRIVAL"
"""Names the file that takes a Python into the load that has started it."""


def install(arrive: Callable[..., None]) -> None:
    """Exchange what starts programs; a Python that a load starts calls ``arrive`` with what makes a scope."""
    starting = _Starting(arrive)
    popen: Any = subprocess.Popen
    while isinstance(popen, functools.partial):
        # its user gives all programs some option
        popen = popen.func
    if isinstance(popen, type):
        swap(vars(popen)["__init__"], dispatching(starting.popen))
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
            setattr(os, name, _InPlaceOf(original, dispatching(answer)(original)))


class _InPlaceOf:
    """Stands for a function of ``os`` as that does: no method of the classes it is an attribute of."""

    def __init__(self, original: BuiltinFunctionType, instead: Function) -> None:
        functools.update_wrapper(self, original)
        self._instead, self._name, self.__module__ = instead, original.__name__, "os"

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._instead(*args, **options)

    def __reduce__(self) -> str:
        return self._name


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
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(added)]
        with outside():
            return original("".join([*exports, os.fsdecode(command)]))

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
        if folder is None:
            # nobody is left whom it could tell of anything
            return found
        found[ARRIVAL] = str(folder / "arrival")
        found["PYTHONPATH"] = startup.put_first(startup.FOLDER, found.get("PYTHONPATH", ""))
        # or it writes beside the files of a tree
        found["PYTHONDONTWRITEBYTECODE"] = "1"
        if os.name == "posix":
            found["PATH"] = startup.put_first(str(folder / "bin"), found.get("PATH", _SHELLS_PATH))
        return found


def _folder(scope: Scope, arrival: Arrival) -> Path | None:
    """Return the folder with what programs of ``scope`` find: the scope as it is now, and stand-ins.

    None if the process that loads has ended, or is about to.
    """
    when = "later-programs" if scope.is_after_load else "programs"
    private, folder = scope.folder.parent, scope.folder.with_name(f"{scope.folder.name}-{when}")
    if not private.is_dir():
        if os.getpid() != scope.process or private in folders.removed:
            return None
        # somebody has cleaned up the folder for temporary files
        private.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        made = _make(scope, Path(tempfile.mkdtemp(dir=private)))
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


def _make(scope: Scope, folder: Path) -> Path:
    (folder / "bin").mkdir()
    for name in (*guard.PROGRAMS, "pip3", f"pip3.{sys.version_info.minor}") if os.name == "posix" else ():
        program = guard.program_name(name)
        refusal = unlocked(f"subprocess:{program}", f"tries to run {program}", scope.owner)
        notes = [
            f"printf '%s\\n' {shlex.quote(line)} >>{shlex.quote(str(notes))}" for notes, line in _notes(scope, refusal)
        ]
        said = shlex.quote(f"hublock: {refusal.error.message}")
        # the lock has said it already of what the model can do without
        tells = [f"printf '%s\\n' {said} >&2"] if refusal.what not in scope.tolerated else []
        stand_in = folder / "bin" / name
        stand_in.write_text("\n".join(["#!/bin/sh", *notes, *tells, "exit 1", ""]), "utf-8")
        stand_in.chmod(0o755)
    unheld = unlocked("subprocess:python", "starts a Python that cannot be held to the lock", scope.owner)
    (folder / "unheld").write_text(json.dumps(_notes(scope, unheld)), "ascii")
    return folder


def _notes(scope: Scope, refusal: Refusal) -> list[tuple[str, str]]:
    """Return where a refusal of a program is noted down, and in what words, for all who shall be told."""
    told = Told(refusal=refusal, by_program=True, after_load=scope.is_after_load)
    return [(str(known.notes), as_line(told, known)) for known in {*ancestors(), scope.as_ancestor}]
