"""Do something to a module as soon as it has been imported: libraries are hooked when they arrive, never imported."""

import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

Hook = Callable[[ModuleType], None]


def when_imported(name: str, hook: Hook) -> None:
    """Call ``hook`` with the module ``name``: now if it is imported already, else right after its import."""
    _finder.hooks[name] = hook
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    module = sys.modules.get(name)
    if module is not None and not is_initializing(module):
        hook(module)


def is_initializing(module: ModuleType | None) -> bool:
    """Say whether a module is being imported right now, perhaps by another thread: it has not everything yet."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


class _Finder(MetaPathFinder):
    """Lets the other finders find, and listens to the end of the import."""

    def __init__(self) -> None:
        self.hooks: dict[str, Hook] = {}
        self._busy = threading.local()

    def find_spec(self, fullname: str, *_path: object) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.hooks or getattr(self._busy, "name", None) == fullname:
            return None
        self._busy.name = fullname
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._busy.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _Listener(spec.loader, self.hooks[fullname])
        return spec


class _Listener(Loader):
    """A loader that calls a hook after the real one is done."""

    def __init__(self, real: Loader, hook: Hook) -> None:
        self._real = real
        self._hook = hook

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        self._real.exec_module(module)
        self._hook(module)


_finder = _Finder()
