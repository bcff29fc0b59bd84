"""Wait until a program imports torch, then answer its torch.hub from the lock."""

# older Pythons than hublock is for may run below it, and shall wait as well
from __future__ import annotations

import atexit
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pickle
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

ALLOW_LOCAL = "HUBLOCK_RUN_ALLOW_LOCAL"
ARRIVAL = "HUBLOCK_ARRIVAL"
"""Names the file that takes a Python, started by a load, into that load."""
RECORD = "HUBLOCK_RUN_RECORD"
"""Says how what `hublock lock` records is traced; empty where nothing is recorded."""
STATUS = "HUBLOCK_RUN_STATUS"
"""The file in which the script that `hublock run` started leaves hublock's own exit code."""
PARENT = "HUBLOCK_RUN_PARENT"
"""The process that waits for that file: only its direct child writes."""
LOADS = ("packaging",)
"""What answering from a lock imports beyond torch, some of it only at the first load."""
LOCKS = (*LOADS, "dulwich", "platformdirs", "requests", "tomlkit", "tqdm")
"""What locking imports."""


def begin() -> None:
    """Prepare this process; torch is not imported before the program imports it."""
    if ALLOW_LOCAL not in os.environ:
        # nobody but a load has asked for us
        return
    sys.meta_path.insert(0, _AfterTorch())
    if os.environ.get(PARENT) == str(os.getppid()):
        # not sys.excepthook, in whose place programs put their own
        atexit.register(_tell, Path(os.environ[STATUS]))


def arrive() -> None:
    """Take this process into the load that has started it, if one has and is there to be told of anything."""
    if ARRIVAL in os.environ:
        with suppress(FileNotFoundError):
            pickle.loads(Path(os.environ[ARRIVAL]).read_bytes())  # noqa: S301 - the load has written it


class _AfterTorch(importlib.abc.MetaPathFinder):
    """Finds nothing itself; wraps the loader that the other finders give for torch, until torch was imported."""

    def __init__(self) -> None:
        self._asking = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torch" or getattr(self._asking, "now", False):
            return None
        self._asking.now = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking.now = False
        # who only looks whether torch is there, or fails to import it, may come again
        if spec is not None and spec.loader is not None:
            spec.loader = _Activating(spec.loader, self)
        return spec


class _Activating(importlib.abc.Loader):
    """Runs torch as its own loader does, and activates hublock after it."""

    def __init__(self, loader: importlib.abc.Loader, finder: _AfterTorch) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            _activate()
        except ImportError as error:
            from hublock.errors import MissingDependency

            raise MissingDependency(
                f"{sys.executable} cannot answer torch.hub from the lock: {error}",
                hint=f"{sys.executable} -m pip install hublock",
            ) from error
        # only now: who tries once more after an error must not get a torch.hub that asks the network
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self._finder]


def _activate() -> None:
    is_recording = bool(os.environ.get(RECORD))
    for name in LOCKS if is_recording else LOADS:
        # looked for, not imported: most programs never need them
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    if is_recording:
        from hublock.startup import recording

        recording.activate()
    else:
        from hublock import hub

        hub.activate(allow_local=os.environ.get(ALLOW_LOCAL) == "1")


def _tell(status: Path) -> None:
    """Leave the exit code of an error of hublock's own that nothing caught for `hublock run`."""
    if "hublock.errors" not in sys.modules:
        # nothing of hublock ran, which an older Python than it is for could not even import
        return
    from hublock.errors import HublockError

    error, trace = getattr(sys, "last_value", None), getattr(sys, "last_traceback", None)
    # who runs code for others, as pytest does, also keeps there what it caught: that did not go down the whole stack
    if isinstance(error, HublockError) and trace is not None and trace.tb_frame.f_back is None:
        status.write_text(str(error.exit_code), encoding="ascii")
