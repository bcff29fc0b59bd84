"""torch.hub's attributes while loads are under way: what foreign code assigns, it alone sees.

As the modules that assign are imported once per process, and others call their functions once, it stays with these
modules, for later loads of them and for their models.
"""

import importlib
from itertools import count
from types import ModuleType
from typing import Any

from hublock.runtime.strict.callers import current
from hublock.runtime.strict.frames import importing_library, importing_module, innermost_namespace
from hublock.runtime.strict.made import anything, made_by, making

_numbers = count()
_GONE = object()
"""Stands for what was deleted."""


class Attributes(ModuleType):
    """The module torch.hub: whoever asks for an attribute gets it of theirs."""

    def __getattribute__(self, name: str) -> Any:
        found = [table[name] for table in _of_caller() if name in table]
        if not found:
            return super().__getattribute__(name)
        _, value = max(found, key=lambda numbered: numbered[0])
        if value is _GONE:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        package, module = _assigning()
        if package is None:
            super().__setattr__(name, value)
        else:
            making(package, module).assigned[name] = next(_numbers), value

    def __delattr__(self, name: str) -> None:
        if _assigning()[0] is None:
            super().__delattr__(name)
        else:
            # or it raises
            getattr(self, name)
            setattr(self, name, _GONE)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)


def _of_caller() -> list[dict[str, tuple[int, Any]]]:
    """Return the assignments that the caller sees."""
    own = current() if anything() else None
    packages = {*own.packages.values(), *own.names, innermost_namespace() or ""} if own is not None else ()
    return [made.assigned for package in packages for made in made_by(package)]


def _assigning() -> tuple[str | None, str]:
    """Return the package that assigns, and the module if that is being imported.

    None for the user's own code, and for what a library does as it is imported.
    """
    if importing_library():
        return None, ""
    package, module = importing_module()
    own = current()
    if package is None and own is not None:
        package = innermost_namespace() or next(reversed([*own.names, *own.packages.values()]), None)
    return package, module
