"""Which top-level module names can never be a repository's own."""

import importlib.machinery
import sys

from hublock.runtime.strict.frames import is_others

FREE = frozenset(
    {"chunk", "cmd", "code", "crypt", "pipes", "profile", "resource", "sched", "secrets", "statistics", "trace", "wave"}
)
"""Names of the standard library that torch does not import and that repositories do give their own files."""

RESERVED = (frozenset(sys.stdlib_module_names) | {"torch", "hublock", "__main__"}) - FREE
"""Names that always mean the installed module: under torch.hub they are imported before any repository is."""


def installed(name: str) -> bool:
    """Tell whether the top-level package or module ``name`` is installed; nothing is imported.

    A folder without ``__init__.py``, and what the user wrote, wherever it is imported from, is not.
    """
    spec = find_top(name)
    return spec is not None and spec.loader is not None and not _is_users(spec)


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


def _is_users(spec: importlib.machinery.ModuleSpec) -> bool:
    return spec.has_location and spec.origin is not None and not is_others(spec.origin)
