"""Imported by every Python below ``hublock run``, or of a load, as it starts (see the site module).

It waits: only when the program imports torch are torch.hub's functions answered from the lock. What a load has started
is taken into that load at once. A ``sitecustomize`` that this one hides runs afterwards, as if this one were not there.
"""

# every Python comes by here, of version 2 as well
import importlib
import io
import json
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))


def begin():
    """Do what this Python was started for."""
    try:
        from hublock.startup import waiting
    except ModuleNotFoundError:
        # a Python of another environment: all of hublock is found where this file is, once its package was
        home = os.path.dirname(os.path.dirname(HERE))
        sys.path.append(home)
        from hublock.startup import waiting

        sys.path.remove(home)
    try:
        waiting.arrive()
    except Exception as error:
        # site would print it, and let the program run outside its load
        refuse(repr(error))
    waiting.begin()


def refuse(reason):
    """End a program that would run outside the load which has started it, and note that down, unless that has ended."""
    arrival = os.environ["HUBLOCK_ARRIVAL"]
    if not os.path.exists(os.path.dirname(arrival)):
        return
    try:
        with io.open(os.path.join(os.path.dirname(arrival), "unheld")) as told:
            for notes, line in json.load(told):
                with io.open(notes, "ab") as file:
                    file.write(line.encode("ascii") + b"\n")
    except (IOError, OSError):
        # of another user
        pass
    sys.stderr.write("hublock: %s cannot be held to the lock: %s\n" % (sys.executable, reason))
    sys.stderr.flush()
    os._exit(1)


if sys.version_info < (3, 11) and "HUBLOCK_ARRIVAL" in os.environ:
    refuse("it is older than 3.11")
elif sys.version_info >= (3, 7):
    begin()

sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or ".") != HERE]
ours = sys.modules.pop("sitecustomize", None)
try:
    importlib.import_module("sitecustomize")
except ImportError as error:
    if getattr(error, "name", "sitecustomize") != "sitecustomize":
        raise
    sys.modules["sitecustomize"] = ours  # type: ignore[assignment]
