"""Where one repository's modules are looked for: in the tree's root and the folders that its code puts on ``sys.path``.

Folders of hubconf.py are known to every process that imports it. One that an entry point adds is not, so its modules
are named after it: see ``sources.package_of``.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from hublock.runtime.modules.ownership import installed
from hublock.runtime.modules.sources import ROOT, Found, Sources
from hublock.runtime.strict.scope import Scope, current


@dataclass(slots=True)
class Names:
    """What the code of a repository sees during one load."""

    path: list[str]
    """Its ``sys.path``."""
    added: dict[str, tuple[str, ...] | None]
    """The added folders after which the top-level modules are named that it has imported; None for the others."""


class Search:
    """The ``sys.path`` of one repository, as each load of it has it."""

    def __init__(self, sources: Sources, path: list[str]) -> None:
        """Look in ``sources`` along ``path``, and what the code puts on it."""
        self._sources = sources
        self._newest = Names(path, {})
        self._settled: Names | None = None
        self._by_load: WeakKeyDictionary[Scope, Names] = WeakKeyDictionary()
        self._found: dict[tuple[str, ...], tuple[Found, ...]] = {}
        self._on_path: dict[tuple[str, ...], list[str]] = {}
        self._lasting: list[str] | None = None
        self._earlier: list[str] = []

    def settle(self) -> None:
        """Take note of the roots that hubconf.py has made."""
        self._lasting = self.roots()
        self._settled = self._newest
        self.new_load()

    def new_load(self) -> None:
        """Let the load that begins see what hubconf.py has left, and add to it alone.

        After the load, what it has added is what late imports see, until the next one begins.
        """
        if self._settled is None:
            return
        self._remember(self._newest.path)
        self._newest = Names(list(self._settled.path), dict(self._settled.added))
        scope = current()
        if scope is not None:
            self._by_load[scope] = self._newest

    def end_load(self) -> None:
        """Know the folders of the load that ends for as long as its model may import from them."""
        scope = current()
        if scope is not None and scope in self._by_load:
            self._remember(self._by_load[scope].path)

    def of_load(self) -> Names | None:
        """Return what the load sees that calls; None where none is under way."""
        scope = current()
        if scope is None or not scope.loading or self._settled is None:
            return None
        if scope not in self._by_load:
            # it began while another one was importing hubconf.py
            self.new_load()
        return self._by_load[scope]

    @property
    def names(self) -> Names:
        """What whoever calls sees."""
        return self.of_load() or self._newest

    def roots(self) -> list[str]:
        """Return the folders of the tree that are on ``sys.path``, in that order, and behind them those that were.

        What is imported only when an earlier model runs is found there.
        """
        return list(dict.fromkeys([*self.on_path(), "", *self._earlier]))

    def on_path(self) -> list[str]:
        """Return the folders of the tree that are on ``sys.path`` now."""
        return self._folders(self._path())

    def _path(self) -> list[str]:
        # hubconf.py may have kept its list by `from sys import path`
        return [*self.names.path, *(self._settled.path if self._settled is not None else ())]

    def neighbour(self, top: str, folders: Sequence[str]) -> bool:
        """Say whether a module that is named after ``folders`` finds ``top`` there, before hubconf.py's folders.

        A load under way that has put them on its ``sys.path`` has said itself what comes before what.
        """
        if self.of_load() is not None and set(filter(None, folders)) <= set(self.on_path()):
            return False
        for folder in folders:
            found = self.among([folder] if folder else self._lasting or [""], top)
            if found and found[0].kind != "folder":
                return bool(folder)
        return False

    def _folders(self, path: Sequence[str]) -> list[str]:
        key = tuple(path)
        if key not in self._on_path:
            self._on_path[key] = [folder for entry in key if (folder := self._folder(entry)) is not None]
        return self._on_path[key]

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
            self.names.path.append(self._sources.on_disk(*folders))
        return self.top(top)

    def _remember(self, path: Sequence[str]) -> None:
        """Go on to find, behind all else, what is in folders of ``path`` that no hubconf.py has put there."""
        self._earlier += [root for root in self._folders(path) if root not in (*(self._lasting or ()), *self._earlier)]

    def add(self, folders: Sequence[str]) -> None:
        """Put ``folders`` on ``sys.path``, around those of hubconf.py, unless they are there or were."""
        known, path = self.roots(), self.names.path
        before = folders[: folders.index("")] if "" in folders else folders
        path[:0] = [self._sources.on_disk(folder) for folder in before if folder not in known]
        path += [self._sources.on_disk(folder) for folder in folders[len(before) :] if folder not in known]

    def added_for(self, stock: str, found: tuple[Found, ...]) -> tuple[str, ...] | None:
        """Return the folders after which the module ``stock`` is named, as a fresh process does not know them.

        The submodules of a package have the name of their package.
        """
        if self._lasting is None or not found or found[0].kind == "folder" or stock.startswith(ROOT):
            return None
        parents = stock.split(".")[:-1]
        added = [root for root in self.roots() if root not in self._lasting]
        root = next((root for root in added if posixpath.join(root, *parents) == found[0].folder), None)
        if root is None or (parents and not self._is_bare(root, parents)):
            return None
        return self._order() if root in self.on_path() else (root,)

    def _order(self) -> tuple[str, ...]:
        """Return the added folders in their order on ``sys.path``, an empty one for all those of hubconf.py."""
        order = list(dict.fromkeys("" if folder in (self._lasting or ()) else folder for folder in self.on_path()))
        return tuple(order[:-1] if order[-1] == "" else order)

    def _is_bare(self, root: str, parents: Sequence[str]) -> bool:
        parent = self._sources.look(root, "/".join(parents))
        return parent is not None and parent.kind == "folder"
