"""Which installed distributions a set of imported modules came from."""

import importlib.metadata
import os
import sys
from collections.abc import Iterable


def distributions_of(modules: Iterable[str]) -> tuple[str, ...]:
    """Return the distributions that ``modules`` (names as in ``sys.modules``) came from, as ``name==version``, sorted.

    Versions are those of the metadata, without their local part. Where several distributions claim a top-level name,
    those whose RECORD holds the module's file are meant (Core Metadata, RECORD); two may own the same file.
    """
    owners = importlib.metadata.packages_distributions()
    files = _Files()
    names: set[str] = set()
    for module in modules:
        claims = set(owners.get(module.partition(".")[0], ()))
        names |= claims if len(claims) < 2 else files.owners(module, claims)
    return tuple(sorted(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names))


class _Files:
    """The files of distributions that share a top-level name, read once each."""

    def __init__(self) -> None:
        self._of: dict[str, frozenset[str]] = {}

    def owners(self, module: str, claims: set[str]) -> set[str]:
        file = getattr(sys.modules.get(module), "__file__", None)
        if not isinstance(file, str):
            # a namespace package belongs to nobody; its modules tell
            return set()
        return {name for name in claims if os.path.normcase(file) in self._files(name)}

    def _files(self, name: str) -> frozenset[str]:
        if name not in self._of:
            distribution = importlib.metadata.distribution(name)
            paths = (str(distribution.locate_file(path)) for path in distribution.files or ())
            self._of[name] = frozenset(os.path.normcase(os.path.normpath(path)) for path in paths)
        return self._of[name]
