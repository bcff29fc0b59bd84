"""torch.hub, answered strictly: the one door through which the code of a hub repository runs.

The functions of torch.hub, ``torch.load`` and their like are exchanged once per process (see ``swap``) and then decide
by scope: in the user's own code the original runs.
"""

import importlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from hublock.errors import InputError
from hublock.runtime import checkpoints, guard, huggingface, local, placing, state, transports
from hublock.runtime.answers import Answers, File, forget_checked
from hublock.runtime.arrivals import when_imported
from hublock.runtime.repository import Repository, namespace
from hublock.runtime.scope import Scope, dispatching, private_folder, start_thread, submit
from hublock.runtime.swap import Function, swap

__all__ = [
    "Answers", "download_url_to_file", "forget_checked", "install", "load_state_dict_from_url", "resolve_object", "run",
    "run_local",
]  # fmt: skip

_install_lock = threading.Lock()
_installed = False


def run(
    repository: Repository,
    entrypoint: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    answers: Answers,
    tolerated: Collection[str] = (),
    hub_dir: Path | None = None,
    cpu_only: bool = False,
    mmap: bool = False,
) -> Any:
    """Import a verified tree, call one entry point, and return what it returns.

    Everything it fetches is asked of ``answers``. Afterwards ``sys.argv``, environment, current directory and
    torch.hub's attributes are as before.

    Args:
        repository: the verified tree.
        entrypoint: a callable of its hubconf.py.
        args: given to the entry point.
        kwargs: given to the entry point.
        answers: what it may fetch.
        tolerated: refusals (``https://host``, ``subprocess:name``) that do not end the load.
        hub_dir: the folder that ``get_dir()`` shows; None for a private one, removed when the process exits.
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
    scope = _scope(answers, hub_dir, owner=f"{repository.id} {entrypoint}", cpu_only=cpu_only, mmap=mmap)
    return _run(scope, repository, entrypoint, args, kwargs or {}, tolerated)


def run_local(
    folder: Path,
    entrypoint: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    answers: Answers,
    mmap: bool = False,
) -> Any:
    """Do the same for a folder of the user's own: its code and its files are taken as they are, its downloads are not.

    Raises:
        InputError: the folder has no hubconf.py.
        Exception: as ``run``.
    """
    install()
    repository = local.repository(folder)
    scope = _scope(answers, None, owner=f"{repository.id} {entrypoint}", mmap=mmap)
    scope.own_folder = repository.root
    return _run(scope, repository, entrypoint, args, kwargs or {}, ())


def _run(
    scope: Scope,
    repository: Repository,
    entrypoint: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    tolerated: Collection[str],
) -> Any:
    before = set(sys.modules)
    try:
        with scope.entered(), state.kept(scope):
            result = _call(scope, repository, entrypoint, args, kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        refused = scope.first_refusal(tolerated)
        if refused is None or refused is error:
            raise
        _forget_modules(scope, before)
        raise refused from error
    refused = scope.first_refusal(tolerated)
    if refused is not None:
        _forget_modules(scope, before)
        raise refused
    return result


def _forget_modules(scope: Scope, before: Collection[str]) -> None:
    """Let the next load import again what this one imported: it may have fallen back at import, for good."""
    own = tuple(f"{namespace(repository)}." for repository in scope.repositories)
    for name in [name for name in sys.modules if name.startswith(own) and name not in before]:
        del sys.modules[name]


def download_url_to_file(
    answers: Answers, url: str, dst: str, hash_prefix: str | None = None, progress: bool = True
) -> None:
    """Do what ``torch.hub.download_url_to_file`` does, with the bytes of ``answers``.

    Raises:
        UnlockedDownload: the lock has no such URL.
        DigestMismatch: the sha256 does not begin with ``hash_prefix``.
    """
    del progress  # the bytes are here already
    placing.copy(answers.fetch(url, hash_prefix=hash_prefix).path, Path(dst).expanduser())


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
    scope = _scope(answers, None, owner="this program", mmap=mmap)
    with scope.entered():
        return torch.hub.load_state_dict_from_url(
            url, model_dir, map_location, progress, check_hash, file_name, weights_only
        )


def install() -> None:
    """Exchange torch.hub's functions and add the guard, once per process; nothing changes outside a scope."""
    global _installed  # noqa: PLW0603 - functions are exchanged once per process
    with _install_lock:
        if not _installed:
            for function, answer in _answered():
                swap(function, dispatching(answer))
            when_imported("torch.package.package_importer", _swap_package)
            transports.install()
            huggingface.install()
            guard.install()
            _installed = True


def _swap_package(module: ModuleType) -> None:
    swap(module.PackageImporter.__init__, dispatching(checkpoints.open_package))


def _answered() -> list[tuple[Function, Function]]:
    from concurrent.futures import ThreadPoolExecutor

    import torch
    import torch.hub

    return [
        (torch.hub.load, _load),
        (torch.hub.list, _list),
        (torch.hub.help, _help),
        (torch.hub.get_dir, lambda scope, _original: str(scope.hub_dir)),
        (torch.hub._get_torch_home, lambda scope, _original: str(scope.hub_dir.parent)),
        (torch.hub.set_dir, _set_dir),
        (torch.hub.download_url_to_file, _download_url_to_file),
        (torch.hub.load_state_dict_from_url, _load_state_dict_from_url),
        (torch.load, checkpoints.load),
        (torch.save, checkpoints.save),
        (torch.jit.load, checkpoints.load_script),
        (threading.Thread.start, start_thread),
        (ThreadPoolExecutor.submit, submit),
    ]


def resolve_object(repository: Repository, name: str) -> object:
    """Return what ``{object = "torch.float16"}`` means; an object of the tree is made when the entry point is called.

    Raises:
        InputError: neither torch nor the tree has such an object.
    """
    head, *rest = name.split(".")
    if head != "torch":
        return _TreeObject(*_split_module(repository, name))
    import torch

    return _attribute(torch, name, rest)


def _attribute(found: object, name: str, words: Sequence[str]) -> object:
    for word in words:
        if not hasattr(found, word):
            raise InputError(f"there is no {name}", hint=_OBJECT_HINT)
        found = getattr(found, word)
    return found


_OBJECT_HINT = "name an object of torch or of the repository's own modules"


@dataclass(frozen=True, slots=True)
class _TreeObject:
    """An argument that only the repository's own code can make."""

    module: str
    attributes: tuple[str, ...]


def _split_module(repository: Repository, name: str) -> tuple[str, tuple[str, ...]]:
    words = name.split(".")
    for cut in range(len(words) - 1, 0, -1):
        path = "/".join(words[:cut])
        if {f"{path}.py", f"{path}/__init__.py"} & repository.listing.by_path.keys():
            return ".".join(words[:cut]), tuple(words[cut:])
    raise InputError(f"{repository.id} has no {name}", hint=_OBJECT_HINT)


def _filled(value: Any, repository: Repository) -> Any:
    """Put the objects of the tree into arguments; runs foreign code."""
    if isinstance(value, _TreeObject):
        module = importlib.import_module(f"{namespace(repository)}.{value.module}")
        return _attribute(module, ".".join([value.module, *value.attributes]), value.attributes)
    if type(value) in (list, tuple):
        return type(value)(_filled(item, repository) for item in value)
    if type(value) is dict:
        return {key: _filled(item, repository) for key, item in value.items()}
    return value


def _scope(answers: Answers, hub_dir: Path | None, *, owner: str, cpu_only: bool = False, mmap: bool = False) -> Scope:
    folder = private_folder()
    if hub_dir is None:
        hub_dir = folder / "torch" / "hub"
    hub_dir.mkdir(parents=True, exist_ok=True)
    return Scope(
        answers=answers, folder=folder, hub_dir=hub_dir, private_hub=hub_dir, owner=owner, cpu_only=cpu_only, mmap=mmap
    )


def _call(scope: Scope, repository: Repository, entrypoint: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    from hublock.runtime import entrypoints

    found: Function = entrypoints.find(_hubconf(scope, repository), entrypoint, repository.id)
    return found(*_filled(list(args), repository), **_filled(dict(kwargs), repository))


def _hubconf(scope: Scope, repository: Repository) -> Any:
    from hublock.runtime import isolation

    scope.adopt(repository)
    placing.show_repository(scope.hub_dir, repository.id, repository.root)
    return isolation.import_hubconf(repository)


def _load(
    scope: Scope, _original: Function, repo_or_dir: str, model: str, *args: Any, source: str = "github", **kwargs: Any
) -> Any:
    for accepted in ("trust_repo", "force_reload", "verbose", "skip_validation"):
        kwargs.pop(accepted, None)
    return _call(scope, _nested(scope, repo_or_dir, source), model, args, kwargs)


def _nested(scope: Scope, repo_or_dir: str, source: str = "github") -> Repository:
    if source.lower() == "local":
        return local.inside(scope, Path(repo_or_dir))
    if source.lower() != "github":
        raise ValueError(f'Unknown source: "{source}". Allowed values: "github" | "local".')
    return scope.ask(f"https://github.com/{repo_or_dir}", lambda: scope.answers.repo(repo_or_dir))


def _list(scope: Scope, _original: Function, github: str, *_rest: Any, **_options: Any) -> list[str]:
    hubconf = _hubconf(scope, _nested(scope, github))
    return [name for name in dir(hubconf) if callable(getattr(hubconf, name)) and not name.startswith("_")]


def _help(scope: Scope, _original: Function, github: str, model: str, *_rest: Any, **_options: Any) -> str | None:
    from hublock.runtime import entrypoints

    repository = _nested(scope, github)
    found: Callable[..., Any] = entrypoints.find(_hubconf(scope, repository), model, repository.id)
    return found.__doc__


def _set_dir(scope: Scope, _original: Function, d: str | os.PathLike[str]) -> None:
    scope.hub_dir = Path(d).expanduser()


def _download_url_to_file(
    scope: Scope, _original: Function, url: str, dst: str, hash_prefix: str | None = None, _progress: bool = True
) -> None:
    placing.place(scope.fetch(url, hash_prefix).path, Path(dst).expanduser(), private=scope.private_hub)


def _load_state_dict_from_url(
    scope: Scope,
    original: Function,
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    *rest: Any,
    **options: Any,
) -> Any:
    """Let torch's own function find the right bytes, alone in a folder under the name it expects."""
    name = file_name if file_name is not None else os.path.basename(urlsplit(url).path)  # noqa: PTH119 - as torch does
    file = scope.fetch(url, _claimed_hash(name) if check_hash else None)
    _leave_behind(scope, file, Path(model_dir) if model_dir is not None else scope.hub_dir / "checkpoints", name)
    folder = Path(tempfile.mkdtemp(dir=scope.folder))
    try:
        placing.link(file.path, folder / name)
        return original(url, str(folder), map_location, progress, check_hash, file_name, *rest, **options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _leave_behind(scope: Scope, file: File, folder: Path, name: str) -> None:
    """Put a file where torch.hub would keep it; another file that is there already is the user's and stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if placing.is_below(folder / name, scope.private_hub) or not (folder / name).exists():
        placing.place(file.path, folder / name, private=scope.private_hub)


def _claimed_hash(name: str) -> str | None:
    import torch.hub

    match = torch.hub.HASH_REGEX.search(name)
    return match.group(1) if match else None
