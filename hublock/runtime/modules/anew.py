"""hubconf.py run anew for a load, as torch.hub runs it: where it keeps something, that is not to hold for the next one.

Each such run is a module of its own, ``hubconf__2`` and so on, which another process makes under the same name as it
unpickles something of it. It lives as long as anything of it does: nobody else holds it, unless it defines classes, for
which ``inspect`` and type hints look in ``sys.modules``: whether such a class is left, a search for garbage tells.
"""

import gc
import importlib
import importlib.machinery
import itertools
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from hublock.core.cached import cached
from hublock.runtime.modules.keeping import keeps
from hublock.runtime.modules.loading import RepositoryLoader, TreeLoader, alias_spec, file_spec
from hublock.runtime.strict.arrivals import is_initializing

if TYPE_CHECKING:
    from hublock.runtime.modules.space import Space

_ITSELF = "__hublock_itself__"
"""By which functions of a module, which hold its globals, hold the module, and its classes."""
_FEW = 4
"""A search for garbage takes time: it is made no more often than for so many loads."""


class HubconfLoader(TreeLoader):
    """Runs hubconf.py once more."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it as in an import of the whole repository."""
        vars(module)[_ITSELF] = self.owner.anew.alive[module.__name__] = module
        with RepositoryLoader.within(self.owner.name), self.owner.search.run_again():
            super().exec_module(module)
        for kind in _classes(module):
            # one without functions holds nothing, and some metaclasses let nobody set anything
            with suppress(AttributeError, TypeError):
                setattr(kind, _ITSELF, module)


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
        self._enough = _FEW
        """Of how many that define classes there must be more to look whether they are still needed."""

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
        self._search()
        names = (f"{self._first}__{number}" for number in self._numbers)
        # some may come from another process
        return importlib.import_module(next(n for n in names if n not in self.alive and n not in sys.modules))

    def let_go(self) -> None:
        """Hold no longer what no load needs any more."""
        self._release([module.__name__ for module in self._finished() if not _classes(module)])

    def _search(self) -> None:
        """Hold no longer what defines classes that nobody has any more, and all that it keeps."""
        held = [module.__name__ for module in self._finished() if module.__name__ in sys.modules]
        if len(held) > self._enough:
            package = self._release(held)
            gc.collect()
            left = {name: module for name in held if (module := self.alive.get(name)) is not None}
            sys.modules.update(left)
            package.update((name.rpartition(".")[2], module) for name, module in left.items())
            self._enough = max(_FEW, 2 * len(left))

    def _finished(self) -> list[ModuleType]:
        """Return those that have run to their ends."""
        found = [alive() for alive in self.alive.valuerefs()]
        return [module for module in found if module is not None and not is_initializing(module)]

    def _release(self, names: Iterable[str]) -> dict[str, Any]:
        """Take modules out of ``sys.modules``, and of the package, whose namespace is returned."""
        package = vars(sys.modules[self._owner.name])
        for name in names:
            sys.modules.pop(name, None)
            package.pop(name.rpartition(".")[2], None)
        return package


def _classes(module: ModuleType) -> list[type]:
    own = [value for value in list(vars(module).values()) if isinstance(value, type)]
    return [kind for kind in own if kind.__module__ == module.__name__]


def is_anew(stock: str) -> bool:
    """Say whether ``stock`` is the name of a later run."""
    return re.fullmatch(r"hubconf__\d+", stock, re.ASCII) is not None
