"""One repository's own view of the import system: its names, its ``sys.path``, its ``__import__``."""

import builtins
import importlib
import importlib.machinery
import importlib.util
import io
import pickle
import posixpath
import sys
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hublock.core.cached import cached
from hublock.runtime.modules.anew import Anew, is_anew
from hublock.runtime.modules.companions import import_installed
from hublock.runtime.modules.loading import (
    FolderLoader,
    TreeLoader,
    alias_spec,
    file_spec,
    folders_spec,
    own_finders_spec,
    rename,
    repository_spec,
    spec_for,
)
from hublock.runtime.modules.ownership import RESERVED, installed
from hublock.runtime.modules.rewriting import adds_folders
from hublock.runtime.modules.search import Search
from hublock.runtime.modules.shims import Shims
from hublock.runtime.modules.sources import FILE, Found, Sources, module_of, package_of
from hublock.runtime.repository import MARKER, ROOT, Repository

if TYPE_CHECKING:
    from types import FrameType


class Space:
    """What all modules of one repository share.

    Modules are named ``<namespace>.<stock name>``. A stock name is looked for in the tree's root, and in every folder
    of the tree that the repository's code puts on its ``sys.path``.
    """

    def __init__(self, repository: Repository, name: str) -> None:
        """Serve ``repository``, whose listing must already be proven, as the package ``name``."""
        self.sources = Sources(repository)
        self.name = name
        self.extra: dict[str, ModuleType] = {}
        """What the repository's code put into ``sys.modules`` under names that are not its own."""
        self._shims = Shims(self)
        self.anew = Anew(self)
        self.search = Search(self.sources, [str(repository.root), *sys.path])
        self.builtins: dict[str, Any] = {"__import__": self.import_}
        self._companions: dict[str, Path] = {}
        self._aliases: set[str] = set()
        self._rooted = False
        self.loads = self.begun = 0
        """How many are under way, and how many have begun."""
        self.before: frozenset[str] = frozenset()
        """The modules that were imported when the first of those under way began."""
        self.kept = False
        """Whether a model is made of its classes."""

    def redirect(self, name: str, importer: str | None = None) -> str | None:
        """Return the full name under which the repository serves the absolute module ``name``; None if it does not.

        ``importer`` is the full name of the module that asks, else whose frame is nearest: one of a folder put on
        ``sys.path`` finds its neighbours.
        """
        top, _, below = name.partition(".")
        if top in RESERVED:
            return None
        self.search.follow(sys.path)
        # anything may be put into sys.modules
        taken_in = str(getattr(self.extra.get(top), "__name__", ""))
        if taken_in.startswith(f"{self.name}.{FILE}"):
            return f"{taken_in}.{below}" if below else taken_in
        if importer is None:
            importer = self._caller()
        package = importer.removeprefix(f"{self.name}.").partition(".")[0]
        folders = self.sources.folders_of(package)
        if folders is not None and self.search.neighbour(top, folders):
            return f"{self.name}.{package}.{name}"
        known = self.search.led_to
        if top not in known and not self.owns(top):
            return None
        added = known[top] if top in known else self.search.added_for(top, self.search.top(top))
        return f"{self.name}.{name}" if added is None else f"{self.name}.{package_of(added)}.{name}"

    def _caller(self) -> str:
        """Return the full name of the module of this repository that calls, where that matters."""
        frame: FrameType | None = sys._getframe(1) if self._rooted else None
        while frame is not None:
            name = str(frame.f_globals.get("__name__"))
            if name.startswith(f"{self.name}."):
                return name
            frame = frame.f_back
        return ""

    def owns(self, top: str) -> bool:
        """Tell whether the top-level name ``top`` is the tree's: a bare folder never hides an installed package."""
        return top not in RESERVED and (bool(self.search.top(top)) or f"{self.name}.{top}" in sys.modules)

    def spec(self, stock: str, parent_path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the module ``stock`` ("" is the repository itself); ``parent_path`` is its package's."""
        fullname = f"{self.name}.{stock}" if stock else self.name
        if not stock:
            return repository_spec(fullname, self)
        added = self.sources.folders_of(stock)
        if added is not None:
            self.search.add(added)
            self._rooted = True
            return folders_spec(fullname, added, self)
        file = self.sources.file_of(stock)
        if file is not None:
            return file_spec(fullname, file, self, package=file.endswith("__init__.py"))
        if is_anew(stock):
            return self.anew.spec(stock)
        package, _, leaf = stock.rpartition(".")
        if not package:
            return self._spec(stock, self.search.top(stock) or self.search.adopted(stock))
        parent = sys.modules.get(f"{self.name}.{package}")
        if parent is not None and parent.__name__ != f"{self.name}.{package}":
            return self._alias(fullname, f"{parent.__name__}.{leaf}")
        folders = [folder for entry in parent_path or () if (folder := self.sources.inside(entry)) is not None]
        if isinstance(getattr(parent, "__loader__", None), FolderLoader):
            # as wide as sys.path is now
            folders = [posixpath.join(root, *package.split(".")) for root in self.search.roots()] + folders
        found = self._spec(stock, self.search.among(folders, leaf))
        return found or own_finders_spec(fullname, stock, parent_path, self)

    def _spec(self, stock: str, found: tuple[Found, ...]) -> importlib.machinery.ModuleSpec | None:
        fullname = f"{self.name}.{stock}"
        added = self.search.added_for(stock, found)
        if added is not None:
            return self._alias(fullname, f"{self.name}.{package_of(added)}.{stock}")
        return spec_for(fullname, found, self) if found else None

    def _alias(self, fullname: str, target: str) -> importlib.machinery.ModuleSpec:
        self._aliases.add(fullname)
        return alias_spec(fullname, partial(importlib.import_module, target))

    def settle(self) -> None:
        """Take note that hubconf.py has been imported, which every process does first."""
        self.search.follow(sys.path)
        self.search.settle()

    def keep_path(self) -> None:
        """Look for good in the folders of the tree on the real ``sys.path``, from which they are about to go."""
        self.search.follow(sys.path)
        self.search.followed.clear()

    @cached
    def may_add_folders(self) -> bool:
        """Whether a function of hubconf.py may put folders of the tree on ``sys.path``."""
        is_there = "hubconf.py" in self.sources.repository.listing.by_path
        return is_there and adds_folders(self.sources.read("hubconf.py"))

    @property
    def has_added(self) -> bool:
        """Whether an entry point has put folders of the tree on ``sys.path``."""
        return self.search.has_added

    def forget_added(self) -> None:
        """Be as hubconf.py has left it, for those who use these modules."""
        self.search.forget_added()
        while self._aliases:
            sys.modules.pop(self._aliases.pop(), None)
        if self.loads == 1:
            names = [name for name in list(sys.modules) if name.startswith(f"{self.name}.")]
            for name in [name for name in names if name not in self.before]:
                module, (parent, _, leaf) = sys.modules.pop(name), name.rpartition(".")
                if vars(sys.modules.get(parent, module)).get(leaf) is module:
                    delattr(sys.modules[parent], leaf)

    @property
    def path(self) -> list[str]:
        """The ``sys.path`` that the repository's code sees; it may put another list there."""
        return self.search.path

    @path.setter
    def path(self, path: list[str]) -> None:
        self.search.path = path

    def imported(self, name: str) -> str:
        """Return the name in ``sys.modules`` of what the repository's code calls ``name``."""
        return name if name.startswith(f"{self.name}.") else self.redirect(name) or name

    def forget(self, name: str) -> None:
        """Look for ``name`` anew when it is imported next."""
        self.search.led_to.pop(name, None)
        if f"{self.name}.{name}" in self._aliases:
            sys.modules.pop(f"{self.name}.{name}", None)

    def lists(self, path: str) -> bool:
        """Tell whether the tree lists a file at ``path``; a folder of the user's own is no such tree."""
        repository = self.sources.repository
        return not repository.is_users_own and self.sources.inside(path) in repository.listing.by_path

    def take_in(self, module: ModuleType, path: str) -> None:
        """Give a module, made of the file at ``path`` under a name for everybody, a name of this repository.

        What was imported below a package goes with it.
        """
        old, new = module.__name__, f"{self.name}.{module_of(self.sources.inside(path) or '')}"
        for name in [name for name in list(sys.modules) if f"{name}.".startswith(f"{old}.")]:
            self.extra[name] = sys.modules[f"{new}{name.removeprefix(old)}"] = taken = sys.modules.pop(name)
            rename(taken, f"{new}{name.removeprefix(old)}")

    def begin(self) -> None:
        """Import the installed packages whose compiled half the tree needs."""
        self._companions = import_installed(self.sources.repository)

    def companion_of(self, folder: str) -> Path | None:
        """Return the folder of the installed package that stands behind ``folder`` of the tree, if there is one."""
        top, _, rest = (self.sources.inside(folder) or "").partition("/")
        companion = self._companions.get(top)
        return companion / rest if companion is not None else None

    def prepare(self, module: ModuleType) -> None:
        """Mark ``module`` as the repository's and give it its own ``__import__``, before any of its code runs.

        Functions keep the builtins that their module had when they were made.
        """
        vars(module)[MARKER] = self.name
        stock = self._stock(module.__name__)
        if stock and "." not in stock and stock != "hubconf" and not hasattr(module, "__path__"):
            # as under torch.hub, which code asks before it imports its neighbours
            module.__package__ = ""
        if hasattr(module, "__path__") and module.__name__.startswith(f"{self.name}.{FILE}"):
            # a fresh process knows no other name of it; most are called as their folders are
            self.extra.setdefault(Path(module.__path__[0]).name, module)
        self.builtins |= {name: value for name, value in vars(builtins).items() if name != "__import__"}
        vars(module)["__builtins__"] = self.builtins

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Answer ``__import__`` for the repository's modules.

        The compiler has redirected the names it knew; here arrive names computed at run time, names below folders put
        on ``sys.path`` since, and modules that have a stand-in.
        """
        if level:
            self._check_level(str((globals or {}).get("__package__")), level)
        # PyImport_Import, which C code calls, drops our answer and reads the real sys.modules
        by_c = fromlist == [] and locals is globals and "__import__" not in sys._getframe(1).f_code.co_names
        if level or by_c:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if name.startswith(f"{self.name}."):
            return self._import_redirected(name, globals, locals, fromlist)
        top = name.partition(".")[0]
        if name in self.extra:
            return self._extra(name, fromlist) if fromlist else self.import_module(top)
        importer = str((globals or {}).get("__name__") or self._caller())
        target, root = self.redirect(name, importer), self.redirect(top, importer)
        if target is not None and root is not None:
            leaf = builtins.__import__(target, globals, locals, fromlist or ("__name__",), 0)
            self._bind(top, root)
            return leaf if fromlist else importlib.import_module(root)
        found = builtins.__import__(name, globals, locals, fromlist or (), 0)
        return self._shims.get(name if fromlist else top) or found

    def _check_level(self, package: str, level: int) -> None:
        """Refuse a relative import that leaves what is a top-level package for the author."""
        if not package:
            # not by the import system, which would warn of a module that has another parent
            raise ImportError("attempted relative import with no known parent package")
        if not f"{package}.".startswith(f"{self.name}.") or package.startswith(f"{self.name}.{FILE}"):
            return
        depth = self._stock(f"{package}.").count(".")
        if level > depth > 0:
            raise ImportError("attempted relative import beyond top-level package")
        if level > depth:
            # of the kind that hubconf.py gets under torch.hub
            raise ModuleNotFoundError("attempted relative import with no known parent package")

    def _import_redirected(
        self,
        name: str,
        globals: Mapping[str, Any] | None,
        locals: Mapping[str, Any] | None,
        fromlist: Sequence[str] | None,
    ) -> ModuleType:
        """Import what the compiler has redirected, which did not know the folders put on ``sys.path`` since."""
        stock = self._stock(name)
        if not stock:
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        target = self.target(name, globals)
        found = builtins.__import__(target, globals, locals, fromlist or ("__name__",), 0)
        self._bind(stock, target)
        if fromlist:
            return found
        # `import a.b as c` takes the attribute b of a, which need not be the module
        below = stock.count(".")
        found = top = importlib.import_module(target.rsplit(".", below)[0])
        for part in reversed(name.rsplit(".", below)[0].split(".")[1:]):
            holder = ModuleType(part)
            setattr(holder, part, found)
            found = holder
        # and a plain call, with what the code computed from a __name__, its top-level package
        vars(found)["__getattr__"] = partial(getattr, top)
        return found

    def _stock(self, name: str) -> str:
        """Return how the author calls the module with the full name ``name``; empty where it is named after a file."""
        stock = name.removeprefix(f"{self.name}.")
        if stock.startswith(ROOT):
            stock = stock.partition(".")[2]
        return "" if stock.startswith(FILE) else "hubconf" if is_anew(stock) else stock

    def target(self, name: str, globals: Mapping[str, Any] | None) -> str:
        """Return the full name of what an import of ``name`` in a module with these ``globals`` gives now."""
        return self.redirect(self._stock(name), str((globals or {}).get("__name__"))) or name

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Answer ``importlib.import_module`` for the repository's modules."""
        absolute = self._absolute(name, package)
        if absolute in self.extra:
            return self._extra(absolute)
        target = self.redirect(absolute)
        found = importlib.import_module(target or absolute)
        if target is not None:
            self._bind(absolute, target)
        return self._shims.get(absolute) or found

    def _absolute(self, name: str, package: str | None) -> str:
        if package:
            self._check_level(package, len(name) - len(name.lstrip(".")))
        return importlib.util.resolve_name(name, package) if name.startswith(".") else name

    def _bind(self, name: str, target: str) -> None:
        """Remember where ``name`` has led, as ``sys.modules`` does, whatever comes onto ``sys.path`` later."""
        package = target.removeprefix(f"{self.name}.").partition(".")[0]
        if not package.startswith(FILE):
            self.search.led_to.setdefault(name.partition(".")[0], self.sources.folders_of(package))

    def _extra(self, name: str, fromlist: Sequence[str] = ()) -> ModuleType:
        found: ModuleType | None = self.extra[name]
        if found is None:
            raise ModuleNotFoundError(f"import of {name} halted; None in sys.modules", name=name)
        own = str(getattr(found, "__name__", ""))
        if fromlist and sys.modules.get(own) is found:
            # it may be a package, of which modules are wanted
            return builtins.__import__(own, fromlist=fromlist)
        return found

    def find_spec(self, name: str, package: str | None = None) -> importlib.machinery.ModuleSpec | None:
        """Answer ``importlib.util.find_spec`` for the repository's modules."""
        absolute = self._absolute(name, package)
        target = self.redirect(absolute) or absolute
        try:
            return importlib.util.find_spec(target)
        except ModuleNotFoundError as error:
            # our finder refuses instead of leaving its names to the finders behind it
            if error.name == target and target.startswith(f"{self.name}."):
                return None
            raise

    def data_folder(self, name: str) -> ModuleType | None:
        """Return a package that stands for the folder ``name``, which holds data and no source; None if none does."""
        folder = name.removeprefix(f"{self.name}.").replace(".", "/")
        top = folder.partition("/")[0]
        files = [path for path in self.sources.repository.listing.by_path if path.startswith(f"{folder}/")]
        if not files or any(path.endswith(".py") for path in files) or (installed(top) and not self.owns(top)):
            return None
        return importlib.util.module_from_spec(folders_spec(name, [folder], self))

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle means by ``name`` of the stock module ``module``."""
        if "." not in name and self.redirect(module) is None and module not in self.extra:
            # also translates the names of Python 2, which protocol 2 still writes
            return pickle.Unpickler(io.BytesIO()).find_class(module, name)  # noqa: S301 - nothing is loaded
        # the package first: a thread that holds a submodule's lock would wait for the one that runs hubconf.py
        importlib.import_module(self.name)
        return reduce(getattr, name.split("."), self.import_module(module))

    def loader_of(self, path: str) -> TreeLoader | None:
        """Return the verifying loader of a file of the tree, None for any other file.

        Whatever the code calls the module, its name tells the file: a fresh process knows nothing else of it.
        """
        file = self.sources.reached(path)
        return TreeLoader(f"{self.name}.{module_of(file)}", file, self) if file else None
