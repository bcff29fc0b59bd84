"""Imported by every Python below ``hublock run`` as it starts (see the site module of the standard library).

It waits: only when the program imports torch are torch.hub's functions answered from the lock. A ``sitecustomize`` that
this one hides runs afterwards, as if this one were not there.
"""

import importlib
import sys
from pathlib import Path

try:
    from hublock.startup.waiting import begin
except ModuleNotFoundError:
    # a Python of another environment: all of hublock is found where this file is, once its package was
    home = str(Path(__file__).resolve().parent.parent.parent)
    sys.path.append(home)
    from hublock.startup.waiting import begin

    sys.path.remove(home)

begin()

sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != Path(__file__).resolve().parent]
ours = sys.modules.pop("sitecustomize", None)
try:
    importlib.import_module("sitecustomize")
except ModuleNotFoundError as error:
    if error.name != "sitecustomize":
        raise
    sys.modules["sitecustomize"] = ours  # type: ignore[assignment]
