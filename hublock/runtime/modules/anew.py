"""hubconf.py run anew for a load, as torch.hub runs it: where it keeps something, that is not to hold for the next one.

Each such run is a module of its own, ``hubconf__2`` and so on, which another process makes under the same name as it
unpickles something of it. It lives as long as anything of it does: nobody else holds it, unless it defines classes, for
which ``inspect`` and type hints look in ``sys.modules``.
"""

import importlib
import importlib.machinery
import itertools
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from hublock.core.cached import cached
from hublock.runtime.modules.keeping import keeps
from hublock.runtime.modules.loading import RepositoryLoader, TreeLoader, alias_spec, file_spec

if TYPE_CHECKING:
    from hublock.runtime.modules.space import Space

_ITSELF = "__hublock_itself__"
"""By which functions of a module, which hold its globals, hold the module."""


class HubconfLoader(TreeLoader):
    """Runs hubconf.py once more."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it as in an import of the whole repository."""
        vars(module)[_ITSELF] = self.owner.anew.alive[module.__name__] = module
        with RepositoryLoader.within(self.owner.name), self.owner.search.run_again():
            super().exec_module(module)


class Anew:
    """The later runs of the hubconf.py of one repository."""

    def __init__(self, owner: "Space") -> None:
        """Nothing ran yet."""
        self._owner = owner
        self._numbers = itertools.count(2)
        self._first = f"{owner.name}.hubconf"
        self._takers: list[object] = []
        """Loads that have come before anything was imported; the first of them imports it."""
        self.alive: WeakValueDictionary[str, ModuleType] = WeakValueDictionary()

    def take_first(self) -> bool:
        """Take the first run for a load; say whether somebody has it, so that the load needs one of its own."""
        if self._first not in sys.modules:
            mine = object()
            self._takers.append(mine)
            if self._takers[0] is mine:
                return False
        return self._keeps

    def give_back(self) -> None:
        """Let another load take the first run, which has failed."""
        self._takers.clear()

    @cached
    def _keeps(self) -> bool:
        return keeps(self._owner.sources.read("hubconf.py"))

    def spec(self, stock: str) -> importlib.machinery.ModuleSpec:
        """Return the spec of the run with the name ``stock``."""
        name = f"{self._owner.name}.{stock}"
        alive = self.alive.get(name)
        if alive is not None:
            return alias_spec(name, lambda: alive)
        return file_spec(name, "hubconf.py", self._owner, package=False, kind=HubconfLoader)

    def run(self) -> ModuleType:
        """Run hubconf.py once more; raises whatever it raises."""
        names = (f"{self._first}__{number}" for number in self._numbers)
        # some may come from another process
        return importlib.import_module(next(n for n in names if n not in self.alive and n not in sys.modules))

    def let_go(self) -> None:
        """Hold no longer what no load needs any more."""
        package = vars(sys.modules[self._owner.name])
        for module in filter(None, (alive() for alive in self.alive.valuerefs())):
            name = module.__name__
            if not any(isinstance(value, type) and value.__module__ == name for value in list(vars(module).values())):
                sys.modules.pop(name, None)
                package.pop(name.rpartition(".")[2], None)


def is_anew(stock: str) -> bool:
    """Say whether ``stock`` is the name of a later run."""
    return re.fullmatch(r"hubconf__\d+", stock, re.ASCII) is not None
