"""Which top-level module names can never be a repository's own."""

import importlib.machinery
import sys
from pathlib import Path

from hublock.runtime.strict.frames import here

FREE = frozenset(
    {"chunk", "cmd", "code", "crypt", "pipes", "profile", "resource", "sched", "secrets", "statistics", "trace", "wave"}
)
"""Names of the standard library that torch does not import and that repositories do give their own files."""

RESERVED = (frozenset(sys.stdlib_module_names) | {"torch", "hublock", "__main__"}) - FREE
"""Names that always mean the installed module: under torch.hub they are imported before any repository is."""


def installed(name: str) -> bool:
    """Tell whether the top-level package or module ``name`` is installed; nothing is imported.

    A folder without ``__init__.py``, and what lies in the working directory or beside the script, is not.
    """
    spec = find_top(name)
    return spec is not None and spec.loader is not None and not _beside_the_script(spec)


class OwnFinder:
    """A finder of ours, which is not asked what is installed."""


def find_top(name: str) -> importlib.machinery.ModuleSpec | None:
    """Find the top-level module ``name`` as the import system would, without importing anything."""
    for finder in [finder for finder in sys.meta_path if not isinstance(finder, OwnFinder)]:
        find = getattr(finder, "find_spec", None)
        spec = find(name, None) if find is not None else None
        if isinstance(spec, importlib.machinery.ModuleSpec):
            return spec
    return None


def _beside_the_script(spec: importlib.machinery.ModuleSpec) -> bool:
    if not spec.has_location or spec.origin is None:
        return False
    place = Path(spec.origin).parents[1 if spec.submodule_search_locations else 0].resolve()
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return place == here() or (isinstance(script, str) and place == Path(script).resolve().parent)
