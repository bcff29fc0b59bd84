"""Imported by every Python below ``hublock run``, or of a load, as it starts (see the site module).

It waits: only when the program imports torch are torch.hub's functions answered from the lock. What a load has started
is taken into that load at once. A ``sitecustomize`` that this one hides runs afterwards, as if this one were not there.
"""

# Pythons older than hublock is for come by here as well, from 3.6 on
import importlib
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def begin() -> None:
    """Do what this Python was started for."""
    try:
        from hublock.startup import waiting
    except ModuleNotFoundError:
        # a Python of another environment: all of hublock is found where this file is, once its package was
        home = str(HERE.parent.parent)
        sys.path.append(home)
        from hublock.startup import waiting

        sys.path.remove(home)
    try:
        waiting.arrive()
    except Exception as error:  # noqa: BLE001 - site would print it, and let the program run outside its load
        refuse(repr(error))
    waiting.begin()


def refuse(reason: str) -> None:
    """End a program that would run outside the load which has started it, and note that down, unless that has ended."""
    arrival = Path(os.environ["HUBLOCK_ARRIVAL"])
    try:
        for notes, line in json.loads(arrival.with_name("unheld").read_text("ascii")):
            with Path(notes).open("ab") as file:
                file.write(line.encode("ascii") + b"\n")
    except FileNotFoundError:
        return
    except OSError:
        # of another user
        pass
    sys.stderr.write(f"hublock: {sys.executable} cannot be held to the lock: {reason}\n")
    sys.stderr.flush()
    os._exit(1)


is_too_old = sys.version_info < (3, 11)
if is_too_old and "HUBLOCK_ARRIVAL" in os.environ:
    refuse("it is older than 3.11")
else:
    begin()

sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != HERE]
ours = sys.modules.pop("sitecustomize", None)
try:
    importlib.import_module("sitecustomize")
except ModuleNotFoundError as error:
    if error.name != "sitecustomize":
        raise
    sys.modules["sitecustomize"] = ours  # type: ignore[assignment]
