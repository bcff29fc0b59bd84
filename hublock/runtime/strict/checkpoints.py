"""``torch.load`` and ``torch.jit.load`` inside a scope: which bytes are these, and how may they be unpickled."""

import hashlib
import io
import os
import pickle
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hublock.core.digest import Digest
from hublock.core.lockfile import Pickle
from hublock.core.pretender import pretender
from hublock.core.tree import LINK, blob_id
from hublock.errors import HublockError, LoadError, TreeMismatch, UnsafePickle
from hublock.runtime.answers import File, sha256_now
from hublock.runtime.repository import Repository, as_written, base_of, namespace
from hublock.runtime.strict.archives import members
from hublock.runtime.strict.frames import innermost_namespace
from hublock.runtime.strict.mounts import may_be_mapped
from hublock.runtime.strict.notes import Told
from hublock.runtime.strict.placing import let_write
from hublock.runtime.strict.refusals import Refusal
from hublock.runtime.strict.scope import Scope, outside
from hublock.runtime.strict.swap import Function


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What is known about the bytes that are about to be unpickled."""

    name: str
    pickle: Pickle | None
    """None: the code wrote them itself, or the load is over: as the code asks."""
    is_saved: bool = False
    """Whether the code, or a program of it, wrote them with ``torch.save``."""
    blob: Path | None = None
    """The file of the store that holds the same bytes, if it was found by its path."""


def load(
    scope: Scope, original: Function, f: Any, map_location: Any = None, pickle_module: Any = None, **options: Any
) -> Any:
    """Answer ``torch.load``: known bytes only, ``weights_only=True`` where the verdict is "tensors".

    A file that the lock consents to unpickle is unpickled unless the code says otherwise.

    Raises:
        UnlockedDownload: nobody locked these bytes.
        UnsafePickle: torch finds more than tensors in a file that is locked as tensors.
        LoadError: torch finds no checkpoint in a file that holds no pickle.
    """
    found = identify(scope, f)
    if map_location is None and scope.cpu_only:
        map_location = "cpu"
    if found.pickle in ("tensors", "none"):
        return _load_tensors(scope, original, found, f, map_location, options)
    if isinstance(found.pickle, tuple) and options.get("weights_only") is None and pickle_module is None:
        # code of the years before torch 2.6 says nothing where it unpickles, and that was consented to by name
        options["weights_only"] = False
    if (
        (found.pickle is not None or found.is_saved)
        and scope.repositories
        and _unpickles(options.get("weights_only"), pickle_module)
    ):
        pickle_module = _by_stock_names(scope, pickle_module)
    return original(f, map_location, pickle_module, **options)


def load_script(scope: Scope, original: Function, f: Any, map_location: Any = None, *rest: Any, **options: Any) -> Any:
    """Answer ``torch.jit.load``: known bytes only.

    Raises:
        UnlockedDownload: nobody locked these bytes.
    """
    identify(scope, f)
    if map_location is None and scope.cpu_only:
        map_location = "cpu"
    return original(f, map_location, *rest, **options)


def open_package(
    scope: Scope, original: Function, importer: Any, file_or_buffer: Any, *rest: Any, **options: Any
) -> None:
    """Answer ``torch.package.PackageImporter``, which runs the code in its file: known bytes only.

    Raises:
        UnlockedDownload: nobody locked these bytes.
    """
    if isinstance(file_or_buffer, str | os.PathLike) or hasattr(file_or_buffer, "read"):
        identify(scope, file_or_buffer)
    if isinstance(file_or_buffer, str | os.PathLike) and scope.loading:
        _check_folder(scope, Path(os.path.realpath(file_or_buffer)))
    original(importer, file_or_buffer, *rest, **options)


def _check_folder(scope: Scope, folder: Path) -> None:
    """Refuse an unpacked package, whose code nobody locked, unless it lies in a tree."""
    own = [scope.own_folder, *(repository.root for repository in scope.repositories)]
    if folder.is_dir() and not any(root and folder.is_relative_to(os.path.realpath(root)) for root in own):
        raise scope.refuse(f"file:{folder.name}", f"runs code in {folder.name}, a folder that nobody locked")


def save(scope: Scope, original: Function, obj: Any, f: Any, *rest: Any, **options: Any) -> None:
    """Answer ``torch.save`` and ``torch.jit.save``: what the code writes itself it may load again."""
    start = f.tell() if _can_be_read(f) else None
    if isinstance(f, str | os.PathLike):
        # C++ opens it, of which the guard does not hear
        let_write(scope.by_path, Path(f), private=scope.private, keep=False)
    original(obj, f, *rest, **options)
    if start is not None:
        f.seek(start)
        _note_saved(scope, _digest(f.read()))
        return
    if hasattr(f, "flush"):
        f.flush()
    path = getattr(f, "name", f)
    if isinstance(path, str | os.PathLike) and Path(path).is_file():
        _note_saved(scope, sha256_now(Path(path)))


def _note_saved(scope: Scope, digest: Digest) -> None:
    scope.saved.add(digest)
    scope.tell(Told(saved=digest))


def _can_be_read(f: Any) -> bool:
    return hasattr(f, "readable") and f.readable() and f.seekable()


def _load_tensors(
    scope: Scope, original: Function, found: Found, f: Any, map_location: Any, options: dict[str, Any]
) -> Any:
    options = {**_without_pickle_options(options), "weights_only": True}
    if scope.mmap and options.get("mmap") is None and found.blob and _may_map(found.blob):
        f, options["mmap"] = str(found.blob), True
    try:
        return original(f, map_location, None, **options)
    except pickle.UnpicklingError as error:
        refused = _refused(found, f, error)
        scope.remember(Refusal(what=f"file:{found.name}", error=refused))
        raise refused from error


def _refused(found: Found, f: Any, error: Exception) -> HublockError:
    if found.pickle != "none":
        said = f"is locked as {found.pickle!r}, but torch finds more in it: {str(error).splitlines()[0]}"
        return UnsafePickle(f"{found.name} {said}", hint="hublock lock --retrace NAME")
    what = None
    with suppress(OSError, TypeError), Path(f).open("rb") as file:
        what = pretender(file)
    return LoadError(
        f"{found.name} is {what or 'nothing that torch.load reads'}, not a checkpoint",
        hint="ask its author for the file itself; what a model takes by its path, --input PATH hands in",
    )


def _without_pickle_options(options: dict[str, Any]) -> dict[str, Any]:
    """Drop what only ``pickle`` understands; an encoding says nothing more where names are ASCII, as tensors' are."""
    kept = {"mmap", "weights_only"}
    if str(options.get("encoding", "utf-8")).lower() not in ("ascii", "latin1", "latin-1", "utf-8", "utf8"):
        kept.add("encoding")
    return {name: value for name, value in options.items() if name in kept}


def safe_globals(scope: Scope, original: Function) -> dict[str, Any]:
    """Answer which globals the code has marked safe for ``weights_only``: those of the tree by their stock names, too.

    Torch goes by the names of their modules, and a checkpoint has the names that those have under torch.hub.
    """
    marked: dict[str, Any] = original()
    # the tree of who asks last: of two classes with one stock name it means its own
    packages = [f"{package}." for package in (*scope.packages.values(), innermost_namespace()) if package]
    own = {
        as_written(name): value for package in packages for name, value in marked.items() if name.startswith(package)
    }
    return marked | own


def _may_map(path: Path) -> bool:
    """Tell whether torch can map a file, and would map it so that writes stay in memory."""
    # MAP_PRIVATE; Windows has no mmap module constants and always maps privately
    import mmap

    from torch.serialization import get_default_mmap_options

    private = getattr(mmap, "MAP_PRIVATE", None)
    if private is not None and get_default_mmap_options() != private:
        return False
    return may_be_mapped(path) and zipfile.is_zipfile(path)


def _unpickles(weights_only: bool | None, pickle_module: Any) -> bool:
    return weights_only is False or (weights_only is None and pickle_module is not None)


def identify(scope: Scope, f: Any) -> Found:
    """Find out what ``f`` (a path or an open file) holds, and leave an open file where it stood.

    Raises:
        UnlockedDownload: nobody locked these bytes.
        TreeMismatch: it is a file of the tree, but not with the tree's bytes.
    """
    if isinstance(f, str | os.PathLike):
        return _identify_path(scope, Path(f))
    named = _path_of(f)
    if named is not None:
        return _identify_path(scope, named)
    start = f.tell()
    data = f.read()
    f.seek(start)
    return _identify_bytes(scope, data, str(getattr(f, "name", "data in memory")))


def _path_of(f: Any) -> Path | None:
    """Return the path of a whole file that is open at its beginning."""
    name = getattr(f, "name", None)
    try:
        if isinstance(name, str) and f.tell() == 0 and os.path.sameopenfile(f.fileno(), f.fileno()):
            opened, there = os.fstat(f.fileno()), Path(name).stat()
            return Path(name) if os.path.samestat(opened, there) else None
    except (OSError, AttributeError, ValueError):
        return None
    return None


def _identify_path(scope: Scope, path: Path) -> Found:
    real = Path(os.path.realpath(path))
    given = scope.by_path.get(str(real))
    if given is not None:
        return Found(name=path.name, pickle=given.pickle, blob=given.path)
    if not real.is_file():
        return Found(name=path.name, pickle=None)  # torch says what is wrong with it
    in_tree = _identify_in_tree(scope, real)
    if in_tree is not None:
        return in_tree
    with outside():
        handed_in = scope.answers.input(real)
    if handed_in is not None:
        # not by its path: whoever may write there may write again
        scope.by_digest[handed_in.digest] = handed_in
        return Found(name=path.name, pickle=handed_in.pickle)
    return _identify_bytes(scope, real.read_bytes(), path.name)


def _identify_in_tree(scope: Scope, real: Path) -> Found | None:
    if scope.own_folder is not None and real.is_relative_to(scope.own_folder):
        return Found(name=real.name, pickle=None)
    for repository in scope.repositories:
        root = Path(os.path.realpath(repository.root))
        if not real.is_relative_to(root):
            continue
        inside = real.relative_to(root).as_posix()
        entry = repository.listing.by_path.get(inside)
        if entry is None:
            continue
        if blob_id(real.read_bytes()) != entry.blob:
            raise _remember(scope, inside, TreeMismatch(f"{inside} of {repository.id} is not what the lock says"))
        found = _judged(scope, repository, inside)
        if found is not None:
            return found
    return None


def _identify_copy(scope: Scope, data: bytes) -> Found | None:
    """Find bytes, wherever the code has put them, among the files of its trees."""
    for repository in scope.repositories:
        for entry in repository.listing.entries:
            if entry.size == len(data) and entry.mode != LINK and entry.blob == blob_id(data):
                found = _judged(scope, repository, entry.path)
                if found is not None:
                    return found
    return None


def _judged(scope: Scope, repository: Repository, inside: str) -> Found | None:
    with outside():
        verdict = scope.answers.pickle_of(repository.id, inside)
    return None if verdict is None else Found(name=inside, pickle=verdict)


def _identify_bytes(scope: Scope, data: bytes, name: str) -> Found:
    digest = _digest(data)
    known = scope.by_digest.get(digest)
    if known is not None:
        return Found(name=name, pickle=known.pickle)
    if digest in scope.saved:
        return Found(name=name, pickle=None, is_saved=True)
    in_tree = _identify_copy(scope, data)
    if in_tree is not None:
        return in_tree
    archive = _archive_of(scope, data)
    if archive is not None:
        return Found(name=name, pickle=_verdict_of_unpacked(scope, archive, data, name))
    handed_in = _ask_about(scope, data)
    if handed_in is not None:
        return Found(name=name, pickle=handed_in.pickle)
    # a program of the load may have saved it
    scope.listen()
    if digest in scope.saved:
        return Found(name=name, pickle=None, is_saved=True)
    if not scope.loading:
        # the promise covers the load; a file the user opens later with the repository's own code is the user's
        return Found(name=name, pickle=None)
    raise scope.refuse(f"file:{name}", f"loads {name}, whose bytes the lock does not list")


def _ask_about(scope: Scope, data: bytes) -> File | None:
    with outside(), tempfile.TemporaryDirectory(dir=scope.folder) as folder:
        path = Path(folder) / "data"
        path.write_bytes(data)
        return scope.answers.input(path)


def _archive_of(scope: Scope, data: bytes) -> File | None:
    """Return the archive, of those the code has been given, that ``data`` is a member of."""
    wanted = _digest(data)
    for file in list(scope.by_digest.values()):
        if any(_digest(member) == wanted for member in members(file.path, len(data))):
            return file
    return None


def _verdict_of_unpacked(scope: Scope, archive: File, data: bytes, name: str) -> Pickle:
    """Judge a file that came packed: what it runs must have been consented to with the archive."""
    from hublock.core.pickles.scanning import scan

    verdict = scan(io.BytesIO(data))
    consented = archive.pickle if isinstance(archive.pickle, tuple) else ()
    lacking = sorted(set(verdict) - set(consented)) if isinstance(verdict, tuple) else []
    if lacking:
        error = UnsafePickle(f"{name}, unpacked by {scope.owner}, would run {', '.join(lacking)}")
        raise _remember(scope, name, error)
    return verdict


def _remember(scope: Scope, name: str, error: HublockError) -> HublockError:
    scope.remember(Refusal(what=f"file:{name}", error=error))
    return error


def _by_stock_names(scope: Scope, pickle_module: Any) -> Any:
    """Return a pickle module whose unpickler finds the repository's classes by the names they were saved under."""
    from hublock.runtime import isolation

    module = pickle_module or pickle
    marker = innermost_namespace()
    asking = [repository for repository in scope.repositories if namespace(repository) == base_of(marker or "")]
    repository = (asking or scope.repositories)[0]
    # that of its last call of it
    mine = (package for (name, _), package in reversed(scope.packages.items()) if name == namespace(repository))
    package = next(mine, None)

    class StockNames(pickle.Unpickler):
        def find_class(self, module_name: str, name: str, /) -> Any:
            return isolation.find_class(repository, module_name, name, package)

    if module is pickle or module.Unpickler is pickle.Unpickler:
        unpickler: type = StockNames
    else:
        # the code's own unpickler first: its super().find_class() arrives at ours
        unpickler = type("Unpickler", (module.Unpickler, StockNames), {})
    return _PickleModule(module, unpickler)


class _PickleModule:
    """A pickle module with another unpickler."""

    def __init__(self, module: Any, unpickler: type) -> None:
        self._module = module
        self.Unpickler = unpickler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def load(self, file: Any, **options: Any) -> Any:
        return self.Unpickler(file, **options).load()


def _digest(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())
