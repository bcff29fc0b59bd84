"""Give user code the stock names of one repository for the length of a ``with`` block."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType

from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.modules.anew import is_anew
from hublock.runtime.modules.loading import alias_spec
from hublock.runtime.modules.ownership import OwnFinder
from hublock.runtime.modules.space import Space

_ONE_AT_A_TIME = ForkSafeLock()


@contextmanager
def aliased(space: Space) -> Iterator[None]:
    """Put the modules of ``space`` into ``sys.modules`` under their stock names, and what they hide back afterwards.

    ``sys.modules`` is the process's: other threads see the names too, and a second block waits for the first.
    """
    with _ONE_AT_A_TIME:
        hidden = _take_out(space)
        prefix = f"{space.name}."
        own = [name.removeprefix(prefix) for name in list(sys.modules) if name.startswith(prefix)]
        sys.modules.update({name: sys.modules[prefix + name] for name in own if not is_anew(name)})
        if (latest := space.anew.latest) is not None:
            sys.modules["hubconf"] = latest
        finder = _AliasFinder(space)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            _take_out(space)
            sys.modules.update(hidden)


def _take_out(space: Space) -> dict[str, ModuleType]:
    tops = {name.partition(".")[0] for name in list(sys.modules)}
    owned = {top for top in tops if space.owns(top)}
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in owned}


class _AliasFinder(OwnFinder, importlib.abc.MetaPathFinder):
    def __init__(self, space: Space) -> None:
        self._space = space

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        name = self._space.redirect(fullname)
        return alias_spec(fullname, partial(importlib.import_module, name)) if name is not None else None
