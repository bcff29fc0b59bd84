"""hubconf.py runs anew for each load, as under torch.hub: what it keeps does not hold for the next one.

The modules that it imports stay. Each run after the first is a module of its own, ``hubconf__2`` and so on, which
another process makes under the same name as it unpickles something of it. It lives as long as anything of it does:
``sys.modules`` holds the latest only, and of them those that define classes, for which ``inspect`` and type hints look
there.
"""

import importlib
import importlib.machinery
import itertools
import marshal
import re
import sys
from contextlib import suppress
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ref

from hublock.runtime.modules.loading import RepositoryLoader, TreeLoader, alias_spec, file_spec

if TYPE_CHECKING:
    from hublock.runtime.modules.space import Space

_ITSELF = "__hublock_itself__"
"""By which functions of a module, which hold its globals, hold the module, and its classes."""
_LATEST = 32
"""How many runs stay in ``sys.modules``."""


class HubconfLoader(TreeLoader):
    """Runs hubconf.py once more."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        """Compile ``data`` once for all runs, as long as names mean the same.

        Each gets a copy: torch.compile keeps what it has made of a function, and of its globals, with its code.
        """
        key = bytes(data), frozenset(self.owner.extra)
        known = self.owner.anew.compiled
        compiled = known.get(key)
        if compiled is None:
            compiled = marshal.dumps(super().source_to_code(data, path))
            known.clear()
            known[key] = compiled
        code: CodeType = marshal.loads(compiled)  # noqa: S302 - what stands above
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run it as in an import of the whole repository."""
        vars(module)[_ITSELF] = module
        self.owner.anew.runs[module.__name__] = ref(module)
        with RepositoryLoader.within(self.owner.name), self.owner.search.run_again():
            super().exec_module(module)
        for kind in _classes(module):
            # one without functions holds nothing; isinstance would look for what a protocol has in each object
            if not getattr(kind, "_is_protocol", False):
                # some metaclasses let nobody set anything, nor do some types
                with suppress(TypeError):
                    type.__setattr__(kind, _ITSELF, module)


class Anew:
    """The later runs of the hubconf.py of one repository."""

    def __init__(self, owner: "Space") -> None:
        """Nothing ran yet."""
        self._owner = owner
        self._numbers = itertools.count(2)
        self._first = f"{owner.name}.hubconf"
        self.compiled: dict[tuple[bytes, frozenset[str]], bytes] = {}
        """The latest code of hubconf.py, by its source and what code has put into ``sys.modules``."""
        self._takers: list[object] = []
        """Loads that have come before anything was imported; the first of them imports it."""
        self._held: list[str] = []
        """Those of loads that have not been let go."""
        self.runs: dict[str, ref[ModuleType]] = {}
        """The last one last; none has a callback, which the collector of garbage would run amid anything."""

    def take_first(self) -> bool:
        """Take the first run for a load; say whether it could, as nobody else has it."""
        mine = object()
        if self._first not in sys.modules:
            self._takers.append(mine)
        return self._takers[:1] == [mine]

    def give_back(self) -> None:
        """Let another load take the first run, which has failed."""
        self._takers.clear()

    def spec(self, stock: str) -> importlib.machinery.ModuleSpec:
        """Return the spec of the run with the name ``stock``."""
        name = f"{self._owner.name}.{stock}"
        run = self.runs.get(name)
        alive = run() if run is not None else None
        if alive is not None:
            return alias_spec(name, lambda: alive)
        return file_spec(name, "hubconf.py", self._owner, package=False, kind=HubconfLoader)

    def run(self) -> ModuleType:
        """Run hubconf.py once more; raises whatever it raises."""
        names = (f"{self._first}__{number}" for number in self._numbers)
        # some may come from another process
        name = next(name for name in names if name not in self.runs and name not in sys.modules)
        module = importlib.import_module(name)
        self._held.append(name)
        return module

    @property
    def latest(self) -> ModuleType | None:
        """The last run, or the first; None where nothing ran."""
        runs = [module for run in list(self.runs.values()) if (module := run()) is not None]
        return runs[-1] if runs else sys.modules.get(self._first)

    def let_go(self) -> None:
        """Hold no longer what no load needs any more, but for what is imported again later: pickle has asked for it."""
        for name in [name for name, run in list(self.runs.items()) if run() is None]:
            del self.runs[name]
        package, latest = vars(sys.modules[self._owner.name]), self._held[-_LATEST:]
        for name in list(self._held):
            # the code may have taken it away itself
            if name not in latest or name not in sys.modules or not _classes(sys.modules[name]):
                self._held.remove(name)
                sys.modules.pop(name, None)
                package.pop(name.rpartition(".")[2], None)


def _classes(module: ModuleType) -> list[type]:
    kinds = [value for value in list(vars(module).values()) if isinstance(value, type)]
    return [kind for kind in kinds if kind.__module__ == module.__name__]


def is_anew(stock: str) -> bool:
    """Say whether ``stock`` is the name of a later run."""
    return re.fullmatch(r"hubconf__\d+", stock, re.ASCII) is not None
