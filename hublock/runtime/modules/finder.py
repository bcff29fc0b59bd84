"""The one meta-path finder: it answers for everything below ``hublock.repos`` and for nothing else."""

import builtins
import hashlib
import importlib
import importlib.machinery
import itertools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any
from uuid import uuid4

from hublock.errors import TreeMismatch
from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.modules.loading import TreeLoader, compile_own
from hublock.runtime.modules.ownership import OwnFinder, installed
from hublock.runtime.modules.space import Space
from hublock.runtime.repository import MARKER, PACKAGE, Repository, base_of, namespace
from hublock.runtime.strict.arrivals import when_imported
from hublock.runtime.strict.frames import innermost_namespace
from hublock.runtime.strict.swap import Function, swap

Lookup = Callable[[str], Repository | None]
"""Answers a namespace that this process has not seen yet; may raise what the user should read."""

_NAMESPACE = re.compile(rf"({re.escape(PACKAGE)}\.[A-Za-z]\w*_[0-9a-f]{{16}})(?:__[0-9a-f]+)?", re.ASCII)


class Finder(OwnFinder):
    """Finds the modules of registered repositories, and asks ``lookup`` about the others."""

    def __init__(self) -> None:
        """Know no repository yet."""
        self.lookup: Lookup | None = None
        self._spaces: dict[str, Space] = {}
        self._newest: dict[str, str] = {}
        self._retired: set[str] = set()
        self._adding: set[str] = set()
        """Repositories whose functions may put folders of theirs on ``sys.path``."""
        self._own: set[str] = set()
        """The packages of loads of those."""
        self._calls: dict[tuple[str, str | None], str] = {}
        """Those among them that equal calls use again, by repository and call."""
        self._trees: list[Space] = []
        self._roots: tuple[str, ...] = ()
        self._lock = ForkSafeLock()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer the import system.

        Raises:
            ModuleNotFoundError: the module is not in the tree. To return None would let the finders behind this one
                look into the folder on disk, where unlisted files and bytecode may lie.
        """
        del target
        package, _, stock = fullname[len(PACKAGE) + 1 :].partition(".")
        name = f"{PACKAGE}.{package}"
        if not fullname.startswith(f"{PACKAGE}.") or not _NAMESPACE.fullmatch(name):
            return None
        space = self.space(name)
        spec = space.spec(stock, path) if space is not None else None
        if spec is None:
            whose = f" in {space.sources.repository.id}" if space is not None else ""
            raise ModuleNotFoundError(f"No module named {stock or fullname!r}{whose}", name=fullname)
        return spec

    def register(self, repository: Repository) -> Space:
        """Serve ``repository``; once a tree's code has been imported, its registration stays for good.

        Raises:
            TreeMismatch: its listing is not that of its digest.
        """
        base = namespace(repository)
        return self._register(repository, self._newest.get(base, base))

    def _register(self, repository: Repository, name: str) -> Space:
        with self._lock:
            known = self._spaces.get(name)
            moved = known is not None and known.sources.repository.root != repository.root
            if known is None or (moved and name not in sys.modules):
                if repository.listing.digest != repository.digest:
                    raise TreeMismatch(
                        f"the listing of {repository.id} is that of {repository.listing.digest}, "
                        f"not of the locked {repository.digest}",
                        hint="hublock sync",
                    )
                known = self._spaces[name] = Space(repository, name)
                self._index()
        if known.sources.repository.digest != repository.digest:
            raise TreeMismatch(f"two trees share the name {name}: their digests begin alike", hint="hublock verify")
        return known

    def retire(self, package: str) -> None:
        """Leave the modules below ``package`` to whoever has them: later loads import new ones.

        In another process, a name of the new ones means the same tree.
        """
        base = base_of(package)
        with self._lock:
            if package in sys.modules:
                self._retired.add(package)
                self._calls = {call: name for call, name in self._calls.items() if name != package}
                if self._newest.get(base, base) == package:
                    self._newest[base] = self._unused(base, "")

    def _unused(self, base: str, call: str | None) -> str:
        """Return a package for a load that shares no modules; for the same ``call`` it is the same in any process."""
        seeds = (repr((call, number)) if call is not None else uuid4().hex for number in itertools.count())
        names = (f"{base}__{hashlib.sha256(seed.encode()).hexdigest()[:8]}" for seed in seeds)
        return next(name for name in names if name not in self._retired)

    def begin(self, repository: Repository, call: str | None = None, *, alone: bool = False) -> Space:
        """Serve ``repository`` to a new load, until :meth:`end`; raises as :meth:`register`.

        Where functions of it put folders on ``sys.path``, each ``call`` has modules of its own, in any process; who is
        to be ``alone`` has them anyway.
        """
        base = namespace(repository)
        with self._lock:
            space = self.register(repository)
            if space.may_add_folders:
                self._adding.add(base)
            if alone:
                space = self._register(repository, self._unused(base, None))
                self._own.add(space.name)
            elif base in self._adding:
                name = self._calls.get((base, call)) or self._unused(base, call)
                self._own.add(name)
                if call is not None:
                    self._calls[base, call] = name
                space = self._register(repository, name)
            if not space.loads:
                space.before = frozenset(name for name in list(sys.modules) if name.startswith(f"{space.name}."))
            # what was imported without a load, as by an unpickling, is used by somebody as well
            space.begun += 1 if space.begun or space.name not in sys.modules else 2
            space.loads += 1
            return space

    def is_mixed(self, package: str, call: str) -> bool:
        """Say whether a load must begin again, as others use the modules for which it has put folders on ``sys.path``.

        From then on, and after any load that does so, each call of the repository has modules of its own.
        """
        base = base_of(package)
        with self._lock:
            space = self._spaces[package]
            if not space.has_added or package in self._own:
                return False
            self._adding.add(base)
            if space.begun > 1:
                space.forget_added()
                return True
            self._own.add(package)
            self._calls[base, call] = package
            return False

    def end(self, package: str, *, kept: bool) -> None:
        """Take note that a load ends; modules that later loads do not use go, if no other load and no model is left."""
        with self._lock:
            space = self._spaces[package]
            space.loads -= 1
            space.kept |= kept
            if not space.loads and package in sys.modules:
                space.anew.let_go()
            if space.kept or space.loads or self._newest.get(base_of(package), package) == package:
                return
            del self._spaces[package]
            self._calls = {call: name for call, name in self._calls.items() if name != package}
            self._index()
        for name in [name for name in list(sys.modules) if name == package or name.startswith(f"{package}.")]:
            sys.modules.pop(name, None)

    def named(self, package: str) -> Space:
        """Return the registered repository whose modules are below ``package``."""
        return self._spaces[package]

    def newest_imported(self, repository: Repository) -> Space:
        """Return the repository as it was imported last; else as it would be."""
        base = namespace(repository)
        names = [name for name in reversed(self._spaces) if base_of(name) == base]
        return self._spaces[next((name for name in names if name in sys.modules), names[0])]

    def holding(self, path: str) -> Space | None:
        """Return the repository in whose tree ``path`` is: the one that calls, else the newest.

        A folder of the user's own holds nothing here: it holds the user's own program, too.
        """
        if not path.startswith(self._roots):
            return None
        found = [space for space in self._trees if space.sources.inside(path) is not None]
        calling = innermost_namespace() if len(found) > 1 else None
        return next((space for space in found if space.name == calling), found[-1] if found else None)

    def _index(self) -> None:
        self._trees = [space for space in self._spaces.values() if not space.sources.repository.is_users_own]
        self._roots = tuple({root for space in self._trees for root in space.sources.roots})

    def space(self, name: str) -> Space | None:
        """Return the repository of the namespace ``name``, registered or looked up.

        Raises:
            TreeMismatch: what was looked up is another one, or its listing is not that of its digest.
        """
        known, named = self._spaces.get(name), _NAMESPACE.fullmatch(name)
        if known is not None or named is None:
            return known
        base = self._spaces.get(named[1])
        repository = base.sources.repository if base is not None else self.lookup and self.lookup(named[1])
        if repository is None:
            return None
        if namespace(repository) != named[1]:
            raise TreeMismatch(f"{repository.id} is {namespace(repository)}, not {name}", hint="hublock sync")
        return self._register(repository, name)


FINDER = Finder()


def _held_to_listing(original: Function) -> Function:
    """Let plain loaders, as ``pkgutil`` and ``PathFinder`` make them, run no byte of a tree that is not listed."""

    def get_code(loader: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        path = loader.get_filename(fullname)
        space = FINDER.holding(path)
        if space is None:
            found: CodeType | None = original(loader, fullname)
            return found
        return compile_own(space, space.sources.read(space.sources.inside(path) or ""), path)

    return get_code


def _prepared(original: Function) -> Function:
    """Let modules that plain loaders run be the repository's, with its names for what they import."""

    def exec_module(loader: object, module: ModuleType) -> None:
        path = getattr(loader, "path", None)
        space = FINDER.holding(path) if isinstance(path, str) and not isinstance(loader, TreeLoader) else None
        if space is not None:
            space.prepare(module)
        original(loader, module)

    # one of the frames that a warning about who imports is not given to
    exec_module.__code__ = exec_module.__code__.replace(co_filename=original.__code__.co_filename)
    return exec_module


def _as_their_caller(original: Function) -> Function:
    """Let a library that is given a module's name by a repository find it as the repository does."""

    def import_module(name: str, package: str | None = None) -> ModuleType:
        found: ModuleType = original(_redirected(name) if package is None else name, package)
        return found

    import_module.__code__ = import_module.__code__.replace(co_filename=original.__code__.co_filename)
    return import_module


def _swap_locate(pydoc: ModuleType) -> None:
    swap(pydoc.locate, lambda original: lambda path, *rest, **named: original(_redirected(path), *rest, **named))


def _swap_resolve(config: ModuleType) -> None:
    resolve = config.BaseConfigurator.resolve
    swap(resolve, lambda original: lambda configurator, s: original(configurator, _redirected(s)))
    swap(config._resolve, lambda original: lambda name: original(_redirected(name)))


def _swap_find(constructor: ModuleType) -> None:
    def find(original: Function) -> Function:
        return lambda self, name, *rest, **named: original(self, _redirected(name), *rest, **named)

    # before PyYAML 5.1 there was only one
    finding = getattr(constructor, "FullConstructor", constructor.Constructor)
    swap(finding.find_python_module, find)
    swap(finding.find_python_name, find)


_THAT_CALL_IMPORT = (
    "jsonargparse._util",
    "lightning.pytorch.cli",
    "nemo.utils.model_utils",
    "pytorch_lightning.cli",
)
"""Modules of libraries that find a class, given by its name, by a call of ``__import__``.

That goes by the real ``sys.modules``, where the user's own modules have these names; so each is given another one.
"""


def _give_import(library: ModuleType) -> None:
    vars(library)["__import__"] = _import_as_their_caller


def _import_as_their_caller(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    space = _calling() if not level else None
    if space is None or _redirected(name) == name:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    return space.import_(name, fromlist=tuple(fromlist or ()))


def _redirected(name: str) -> str:
    """Return the full name of what the repository that calls means by the absolute ``name``; else that itself."""
    space = _calling() if not name.startswith(".") else None
    own = space.redirect(name) if space is not None and not installed(name.partition(".")[0]) else None
    return own or name


def _calling() -> Space | None:
    package = innermost_namespace()
    return FINDER.space(package) if package else None


def let_trace(tracer: ModuleType) -> None:
    """Keep ``torch.compile``, which imports what it traces by itself, from modules that the code would not get.

    It then leaves such an import to the code.
    """

    def import_(name: str, *, globals: dict[str, Any] | None = None, level: int = 0, **rest: Any) -> ModuleType:
        space = FINDER.space(str((globals or {}).get(MARKER)))
        if space is not None and not level and space.target(name, globals) != name:
            raise ImportError(f"{name} is found by the code itself", name=name)
        return builtins.__import__(name, globals=globals, level=level, **rest)

    vars(tracer)["__import__"] = import_
    # nor shall it trace how we import
    skip = getattr(sys.modules.get("torch._dynamo.trace_rules"), "add", None)
    if skip is not None:
        skip("hublock")


def install() -> None:
    """Put the finder before all others."""
    swap(importlib.machinery.SourceFileLoader.get_code, _held_to_listing)
    swap(importlib.machinery.SourceFileLoader.exec_module, _prepared)
    swap(importlib.import_module, _as_their_caller)
    when_imported("pydoc", _swap_locate)
    when_imported("logging.config", _swap_resolve)
    when_imported("yaml.constructor", _swap_find)
    for library in _THAT_CALL_IMPORT:
        when_imported(library, _give_import)
    if not sys.meta_path or sys.meta_path[0] is not FINDER:
        sys.meta_path[:] = [FINDER, *(finder for finder in sys.meta_path if finder is not FINDER)]
