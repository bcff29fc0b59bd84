"""Where one repository's modules are looked for: in the tree's root and the folders that its code puts on ``sys.path``.

Folders of hubconf.py are known to every process that imports it. One that an entry point adds is not, so its modules
are named after it: see ``sources.package_of``.
"""

import posixpath
from collections.abc import Callable, Sequence

from hublock.runtime.modules.ownership import installed
from hublock.runtime.modules.sources import ROOT, Found, Sources


class Search:
    """The ``sys.path`` of one repository."""

    def __init__(self, sources: Sources, path: Callable[[], list[str]]) -> None:
        """Look in ``sources`` along what ``path`` returns at the time."""
        self._sources = sources
        self._path = path
        self._found: dict[tuple[str, ...], tuple[Found, ...]] = {}
        self._lasting: list[str] | None = None
        self._earlier: list[str] = []

    def settle(self) -> None:
        """Take note of the roots that hubconf.py has made."""
        self._lasting = self.roots()

    def roots(self) -> list[str]:
        """Return the folders of the tree that are on ``sys.path``, in that order, and behind them those that were."""
        folders = [folder for entry in self._path() if (folder := self._folder(entry)) is not None]
        return list(dict.fromkeys([*folders, "", *self._earlier]))

    def _folder(self, entry: str) -> str | None:
        folder = self._sources.reached(entry)
        return None if folder is None else self._sources.resolve(folder)

    def top(self, name: str) -> tuple[Found, ...]:
        """Find a top-level name: one module or package, else all bare folders of that name."""
        key = name, *self._path(), *self._earlier
        if key not in self._found:
            found = self.among(self.roots(), name)
            hidden = bool(found) and found[0].kind == "folder" and installed(name)
            self._found[key] = () if hidden else found
        return self._found[key]

    def among(self, folders: Sequence[str], name: str) -> tuple[Found, ...]:
        """Find ``name`` in ``folders``: the first module or package, else all bare folders of that name."""
        found = [hit for folder in dict.fromkeys(folders) if (hit := self._sources.look(folder, name)) is not None]
        whole = [hit for hit in found if hit.kind != "folder"]
        return tuple(whole[:1] or found)

    def adopted(self, top: str) -> tuple[Found, ...]:
        """Find a top-level name in a worker or an unpickling, where the entry point that made a root of it never ran.

        The only folder that holds the name becomes a root; of several, none does.
        """
        folders = self._sources.folders_that_hold(top)
        if len(folders) == 1:
            self._path().append(self._sources.on_disk(*folders))
        return self.top(top)

    def forget_added(self) -> None:
        """Take the folders off ``sys.path`` that no hubconf.py has put there: the next load adds its own.

        What is imported only when an earlier model runs is still found there.
        """
        if self._lasting is not None:
            self._earlier = [root for root in self.roots() if root not in self._lasting]
            self._path()[:] = [entry for entry in self._path() if self._folder(entry) not in self._earlier]

    def add(self, root: str) -> None:
        """Put a folder before all others, unless it is on ``sys.path``."""
        if root not in self.roots():
            self._path().insert(0, self._sources.on_disk(root))

    def root_to_name(self, stock: str, found: tuple[Found, ...]) -> str | None:
        """Return the folder after which the module ``stock`` is named, as a fresh process does not know that folder.

        The submodules of a package have the name of their package.
        """
        if self._lasting is None or not found or found[0].kind == "folder" or stock.startswith(ROOT):
            return None
        parents = stock.split(".")[:-1]
        added = [root for root in self.roots() if root not in self._lasting]
        root = next((root for root in added if posixpath.join(root, *parents) == found[0].folder), None)
        return root if root is not None and (not parents or self._is_bare(root, parents)) else None

    def _is_bare(self, root: str, parents: Sequence[str]) -> bool:
        parent = self._sources.look(root, "/".join(parents))
        return parent is not None and parent.kind == "folder"
