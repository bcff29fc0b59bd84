"""torch.hub, answered strictly: the one door through which the code of a hub repository runs.

The functions of torch.hub, ``torch.load`` and their like are exchanged once per process (see ``swap``) and then decide
by scope: in the user's own code the original runs.
"""

import atexit
import sys
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path
from types import ModuleType
from typing import Any

from hublock.runtime import isolation
from hublock.runtime.answers import Answers, forget_checked
from hublock.runtime.attempts import Watched, attempt
from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.modules.finder import let_trace
from hublock.runtime.nested import FUNCTIONS, check_dependencies
from hublock.runtime.repository import Repository
from hublock.runtime.strict import (
    checkpoints,
    downloads,
    folders,
    guard,
    huggingface,
    local,
    modes,
    placing,
    programs,
    reads,
    transports,
)
from hublock.runtime.strict.arrivals import when_imported
from hublock.runtime.strict.attributes import Attributes
from hublock.runtime.strict.callers import inherit, is_adopted
from hublock.runtime.strict.dispatching import Answering, dispatching
from hublock.runtime.strict.notes import ANCESTORS, Ancestor, Told
from hublock.runtime.strict.objects import resolve_object
from hublock.runtime.strict.pytorch import torch_hub
from hublock.runtime.strict.scope import Scope
from hublock.runtime.strict.started import call_when_done, hand_over, make_pool, start_thread, starting, submit
from hublock.runtime.strict.surroundings import kept_without_load
from hublock.runtime.strict.swap import Function, own, swap

__all__ = [
    "Answers", "Watched", "activate", "activated", "admit", "download_url_to_file", "forget_checked", "get_dir",
    "install", "load_state_dict_from_url", "resolve_object", "watch", "watch_local",
]  # fmt: skip

_install_lock = ForkSafeLock()
_installed = False


def watch(
    repository: Repository,
    entrypoint: str | None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    answers: Answers,
    tolerated: Container[str] = (),
    as_locked: bool = True,
    fetches: Iterable[str] = (),
    cpu_only: bool = False,
    mmap: bool = False,
) -> Watched:
    """Import a verified tree, call one entry point, and tell what it returned and what it was refused on the way.

    Everything it fetches is asked of ``answers``. Afterwards ``sys.argv``, environment, current directory and
    torch.hub's attributes are as before.

    Args:
        repository: the verified tree.
        entrypoint: a callable of its hubconf.py; None to import that and call nothing.
        args: given to the entry point.
        kwargs: given to the entry point.
        answers: what it may fetch.
        tolerated: refusals (``https://host``, ``subprocess:name``) that do not end the load.
        as_locked: whether the arguments are those of a locked call; with others no refused file is tolerated.
        fetches: the addresses of files that it may need: code that was refused one of them is imported anew.
        cpu_only: give ``torch.load`` ``map_location="cpu"`` where the code passes none.
        mmap: map checkpoints of the store into memory where their format allows it.

    Raises:
        UnlockedDownload: something was asked for that ``answers`` or the guard refused, even if the entry point
            swallowed the refusal and returned.
        HublockError: whatever else a question was refused with.
        EntrypointNotFound: hubconf.py has no such entry point.
        Exception: the entry point's own.
    """
    install()
    owner = f"{repository.id} {entrypoint or 'hubconf.py'}"
    scope = _scope(answers, owner=owner, cpu_only=cpu_only, mmap=mmap)
    return attempt(scope, repository, entrypoint, args, kwargs or {}, tolerated, as_locked=as_locked, fetches=fetches)


def watch_local(
    folder: Path,
    entrypoint: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    answers: Answers,
) -> Watched:
    """Do the same for a folder of the user's own: its code and its files are taken as they are, its downloads are not.

    Raises:
        InputError: the folder has no hubconf.py.
        MissingDependency: hubconf.py names packages that are not installed.
        Exception: as ``watch``.
    """
    install()
    repository = local.repository(folder)
    check_dependencies(repository)
    scope = _scope(answers, owner=f"./{repository.root.name} {entrypoint}")
    scope.own_folder = repository.root
    return attempt(scope, repository, entrypoint, args, kwargs or {}, ())


def admit(repository: Repository, *, answers: Answers, tolerated: Container[str]) -> None:
    """Let code of ``repository`` run that no load brought here: a worker's, an unpickled model's.

    What it fetches is asked of ``answers``, unless a load of this process answers already; what is ``tolerated`` it is
    refused without a word.

    Raises:
        MissingDependency: torch cannot be imported.
    """
    install()
    if not is_adopted(repository):
        scope = _scope(answers, owner=repository.id)
        scope.tolerated = tolerated
        scope.adopt(repository)
        placing.show_repository(scope.hub_dir, repository.id, repository.root)


def download_url_to_file(answers: Answers, url: str, dst: str, hash_prefix: str | None = None) -> None:
    """Do what ``torch.hub.download_url_to_file`` does, with the bytes of ``answers``.

    Raises:
        UnlockedDownload: the lock has no such URL.
        DigestMismatch: the sha256 does not begin with ``hash_prefix``.
    """
    scope = _scope(answers, owner="this program")
    placing.copy(scope.fetch(url, hash_prefix).path, Path(dst).expanduser())


def load_state_dict_from_url(
    answers: Answers,
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = False,
    *,
    mmap: bool = False,
) -> Any:
    """Do what ``torch.hub.load_state_dict_from_url`` does, with the bytes of ``answers``.

    Raises:
        UnlockedDownload: the lock has no such URL.
        DigestMismatch: ``check_hash`` is set and the name of the file claims another sha256.
    """
    import torch.hub

    install()
    scope = _scope(answers, owner="this program", mmap=mmap)
    with scope.entered():
        return torch.hub.load_state_dict_from_url(
            url, model_dir, map_location, progress, check_hash, file_name, weights_only
        )


def get_dir() -> str:
    """Return torch's own hub folder.

    Raises:
        MissingDependency: torch cannot be imported.
    """
    return str(torch_hub().get_dir())


def install() -> None:
    """Exchange torch.hub's functions and add the guard, once per process; nothing changes outside a scope.

    Raises:
        MissingDependency: torch cannot be imported.
    """
    global _installed  # noqa: PLW0603 - functions are exchanged once per process
    # not under the lock, which may be wanted as torch has been imported
    module = torch_hub()
    with _install_lock:
        if not _installed:
            module.__class__ = Attributes
            for name, decide in _DISPATCHING.items():
                swap(own(module, name), decide)
            for function, answer in _of_torch():
                swap(function, dispatching(answer))
            when_imported("torch.package.package_importer", _swap_package)
            when_imported("torch._dynamo.symbolic_convert", let_trace)
            _install_beside_torch()
            _installed = True


def _install_beside_torch() -> None:
    for function, answer in _of_the_standard_library():
        swap(function, dispatching(answer))
    when_imported("multiprocessing.pool", _swap_pool)
    isolation.import_within(kept_without_load)
    programs.install(arrive)
    transports.install()
    huggingface.install()
    reads.install()
    guard.install()


def arrive(
    inherited: Mapping[str, Any],
    repositories: Iterable[Repository],
    lineage: tuple[Ancestor, ...] = (),
    after_load: bool = False,
) -> None:
    """Take this process, which a load in another one has started, inside that load: most never import torch.

    ``lineage`` are that load and those it descends from, where this is a program and no worker of ``multiprocessing``;
    ``after_load`` says whether that had ended.
    """
    # as its parent does: plain imports from a tree must not write there
    sys.dont_write_bytecode = True
    _install_beside_torch()
    when_imported("torch", lambda _module: install())
    scope = Scope(**inherited)
    for repository in repositories:
        isolation.serve(repository)
        scope.adopt(repository)
    if lineage:
        vars(current_process())["_config"][ANCESTORS] = lineage
        # what it leaves for the load
        atexit.register(lambda: scope.tell(Told(written=scope.untold())))
    inherit(scope, is_program=bool(lineage), after_load=after_load)


_DISPATCHING = {name: dispatching(answer, name=name) for name, answer in FUNCTIONS.items()}


def _swap_pool(module: ModuleType) -> None:
    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        swap(vars(module.Pool)[name], dispatching(hand_over))


def _swap_package(module: ModuleType) -> None:
    swap(module.PackageImporter.__init__, dispatching(checkpoints.open_package))


def activate(functions: Mapping[str, Function]) -> None:
    """Do what ``activated`` does until the process ends, with nothing left to undo on its way out."""
    install()
    Answering(functions).begin()


@contextmanager
def activated(functions: Mapping[str, Function]) -> Iterator[None]:
    """Answer every torch.hub call of the process with ``functions``, however it was imported, until the block ends.

    Of several blocks that are open, in whatever threads or tasks, the one that was entered last answers.

    Args:
        functions: by their name in torch.hub (``load``, ``list``, ``help``, ``get_dir``, ``set_dir``,
            ``download_url_to_file``, ``load_state_dict_from_url``), with torch.hub's signatures.

    Raises:
        MissingDependency: torch cannot be imported.
    """
    install()
    answering = Answering(functions)
    answering.begin()
    try:
        yield
    finally:
        answering.end()


def _of_torch() -> list[tuple[Function, Function]]:
    import torch._weights_only_unpickler as unpickler
    import torch.hub
    import torch.jit._script as script
    import torch.jit._serialization as scripts
    import torch.serialization as checkpoint

    # private, and not sure to be there in later versions
    safe_globals = getattr(unpickler, "_get_user_allowed_globals", None)
    return [
        (torch.hub._get_torch_home, downloads.get_torch_home),
        (own(checkpoint, "load"), checkpoints.load),
        (own(checkpoint, "save"), checkpoints.save),
        (own(scripts, "load"), checkpoints.load_script),
        (own(scripts, "save"), checkpoints.save),
        (script.RecursiveScriptModule.save, checkpoints.save),
        *([(safe_globals, checkpoints.safe_globals)] if safe_globals is not None else []),
    ]


def _of_the_standard_library() -> list[tuple[Function, Function]]:
    import shutil
    from concurrent.futures import Future, ThreadPoolExecutor
    from multiprocessing.process import BaseProcess

    return [
        (threading.Thread.start, start_thread),
        (ThreadPoolExecutor.__init__, make_pool),
        (ThreadPoolExecutor.submit, submit),
        (Future.add_done_callback, call_when_done),
        (BaseProcess.start, starting(arrive)),
        (shutil.copymode, modes.copy_mode),
        (shutil.copystat, modes.copy_mode),
    ]


def _scope(answers: Answers, *, owner: str, cpu_only: bool = False, mmap: bool = False) -> Scope:
    folder = folders.private_folder()
    hub_dir = folder / "torch" / "hub"
    hub_dir.mkdir(parents=True, exist_ok=True)
    return Scope(
        answers=answers, folder=folder, hub_dir=hub_dir, private_hub=hub_dir, owner=owner, cpu_only=cpu_only, mmap=mmap
    )
