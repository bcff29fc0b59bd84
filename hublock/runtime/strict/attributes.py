"""torch.hub's attributes while loads are under way: what foreign code assigns, it alone sees.

What modules assign as they are imported, once per process, is there for later loads of them as well.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from hublock.runtime.strict.callers import current
from hublock.runtime.strict.frames import importing_package

_made: dict[str, dict[str, Any]] = {}
"""What modules assigned as they were imported, by their package."""
_GONE = object()
"""Stands for what was deleted."""


class Attributes(ModuleType):
    """The module torch.hub: whoever asks for an attribute gets it of theirs."""

    def __getattribute__(self, name: str) -> Any:
        for assigned in _of_caller():
            if name in assigned:
                if assigned[name] is _GONE:
                    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
                return assigned[name]
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        own, package = current(), importing_package()
        if own is not None:
            # the last assignment stands
            own.assigned.pop(name, None)
        if package is not None:
            _made.setdefault(package, {})[name] = value
        elif own is not None:
            own.assigned[name] = value
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if current() is None and importing_package() is None:
            super().__delattr__(name)
        else:
            # or it raises
            getattr(self, name)
            setattr(self, name, _GONE)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)


def _of_caller() -> Iterator[dict[str, Any]]:
    own = current()
    if own is not None:
        yield own.assigned
        for package in _made and (*own.packages.values(), *own.names):
            yield _made.get(package, {})


@contextmanager
def made(package: str) -> Iterator[None]:
    """Keep what the import of ``package`` in the block assigns for later loads; nothing if it fails."""
    try:
        yield
    except BaseException:
        _made.pop(package, None)
        raise
