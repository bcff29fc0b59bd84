"""torch.hub's seven functions, answered from the project's lock.

They have torch.hub's names, parameters and results; what they do not do is ask the network or run bytes that nobody
locked. ``trust_repo``, ``skip_validation`` and ``verbose`` have no effect: the reviewed lock is the trust decision.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from hublock.actions import load as loading
from hublock.actions import locate
from hublock.actions.project import read_named_lock
from hublock.actions.proof import check_state
from hublock.core.matching import Call, locked_repo, match
from hublock.errors import InputError, NotLocked, UnlockedDownload
from hublock.runtime import isolation, torchhub
from hublock.runtime.answers import without_login
from hublock.runtime.forksafe import ForkSafeLock
from hublock.settings import Settings

if TYPE_CHECKING:
    from hublock.actions.offers import Offer
    from hublock.core.lockfile import Lock
    from hublock.store.store import Store


def use(path: str | os.PathLike[str]) -> None:
    """Answer from the lock at ``path`` (a project folder or a lock file) from now on, in this whole process.

    Processes that it starts do the same: ``HUBLOCK_PROJECT`` tells them.

    Raises:
        NotLocked: there is no lock.
        InputError: it is not valid, or was written by a newer hublock.
    """
    file = locate.named_lock(Path(path).expanduser().absolute())
    read_named_lock(file, hint="name a project folder that holds hub.lock, or the file itself")
    os.environ["HUBLOCK_PROJECT"] = str(file)


def load(
    repo_or_dir: str,
    model: str | None = None,
    *args: Any,
    source: str = "github",
    trust_repo: bool | str | None = "check",
    force_reload: bool = False,
    verbose: bool = True,
    skip_validation: bool = False,
    verify: Literal["state"] | None = None,
    **kwargs: Any,
) -> Any:
    """Load a model from the lock, as ``torch.hub.load`` loads it from GitHub.

    Args:
        repo_or_dir: the reference as the lock has it (``owner/repo:ref``), a model's name, or
            ``owner/repo:entrypoint`` as ``hublock add`` spelled it; with ``source="local"``, a folder.
        model: the entry point; left out where ``repo_or_dir`` names a model.
        *args: passed to the entry point.
        source: ``github``, or ``local`` to run a folder of your own: the one thing the lock does not vouch for.
        trust_repo: accepted, without effect.
        force_reload: hash everything from disk again.
        verbose: accepted, without effect.
        skip_validation: accepted, without effect.
        verify: ``state`` compares every parameter and buffer of the result with the fingerprint in the lock.
        **kwargs: passed to the entry point; beside a name they update the locked ones.

    Returns:
        Whatever the entry point returns.

    Raises:
        NotLocked: the lock does not have it, or no fingerprint to verify; or there is no lock.
        InputError: the lock is not valid, or it is not clear which model is meant.
        OfflineError: it is not in the store; ``hublock sync`` fetches it.
        IntegrityError: stored bytes are not the locked ones, or a verified result has another fingerprint.
        StoreError: the store cannot be read.
        EnvironmentMismatch: packages are missing or do not fit.
        EntrypointNotFound: hubconf.py does not define it.
        UnlockedDownload: the entry point asked for what the lock does not name.
        ValueError: ``source`` or ``verify`` is none of the above, or a name is no string.
    """
    if verify not in (None, "state"):
        raise ValueError(f'Unknown verify: {verify!r}. Allowed values: "state" | None.')
    return _load(repo_or_dir, model, args, kwargs, source=source, force_reload=force_reload, verify=verify)


def _load(
    repo_or_dir: str,
    model: str | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    source: str,
    force_reload: bool,
    verify: Literal["state"] | None,
) -> Any:
    repo_or_dir = os.fspath(repo_or_dir) if isinstance(repo_or_dir, os.PathLike) else repo_or_dir
    _check_strings(repo_or_dir=repo_or_dir, source=source, **({} if model is None else {"model": model}))
    source = source.lower()
    if source not in ("github", "local"):
        raise ValueError(f'Unknown source: "{source}". Allowed values: "github" | "local".')
    file, lock, store = _project()
    if force_reload:
        torchhub.forget_checked()
    if source == "local":
        if model is None:
            raise InputError(
                'source="local" needs the name of an entry point', hint='load(FOLDER, "ENTRYPOINT", source="local")'
            )
        return loading.load_folder(Path(repo_or_dir), model, args, kwargs, lock, store)
    found = match(lock, repo_or_dir, model, file=str(file))
    call = Call(match=found, args=args, kwargs=kwargs)
    result = loading.load(call, lock, store, mmap=Settings.from_mapping(os.environ).mmap)
    if verify == "state":
        check_state(result, call)
    return result


def _check_strings(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, str):
            raise ValueError(f"Invalid input: {name} should be a string, not {value!r}")


def list(
    github: str,
    force_reload: bool = False,
    skip_validation: bool = False,
    trust_repo: bool | str | None = "check",
    verbose: bool = True,
) -> Sequence[str]:
    """Return the names of the entry points of a locked repository; no network, and none of its code runs.

    Raises:
        NotLocked: the lock does not have the repository.
        OfflineError: its tree is not in the store.
        ValueError: ``github`` is no string.
    """
    _check_strings(github=github)
    # interned as the names in dir() are, which torch.hub.list returns
    return [sys.intern(entry.name) for entry in _offer(github).entrypoints]


def help(
    github: str,
    model: str,
    force_reload: bool = False,
    skip_validation: bool = False,
    trust_repo: bool | str | None = "check",
) -> str | None:
    """Return the docstring of an entry point of a locked repository; no network, and none of its code runs.

    Raises:
        NotLocked: the lock does not have the repository.
        OfflineError: its tree is not in the store.
        EntrypointNotFound: the repository has no such entry point.
        ValueError: ``github`` or ``model`` is no string.
    """
    _check_strings(github=github, model=model)
    from hublock.actions.offers import find_entrypoint

    return find_entrypoint(_offer(github), model).doc


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Write the locked file of ``url`` to ``dst``.

    Raises:
        UnlockedDownload: the lock does not name ``url``.
        OfflineError: the file is not in the store.
        DigestMismatch: the bytes are not the locked ones, or do not begin with ``hash_prefix``.
    """
    with _advised(url):
        torchhub.download_url_to_file(_answers(), url, dst, hash_prefix)


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = False,
) -> dict[str, Any]:
    """Return the object in the locked file of ``url``.

    Raises:
        UnlockedDownload: the lock does not name ``url``.
        OfflineError: the file is not in the store.
        DigestMismatch: the bytes are not the locked ones, or not those the name claims under ``check_hash``.
    """
    with _advised(url):
        answer: dict[str, Any] = torchhub.load_state_dict_from_url(
            _answers(),
            url,
            model_dir=model_dir,
            map_location=map_location,
            progress=progress,
            check_hash=check_hash,
            file_name=file_name,
            weights_only=weights_only,
            mmap=Settings.from_mapping(os.environ).mmap,
        )
        return answer


def get_dir() -> str:
    """Return the folder that holds what was fetched: the store."""
    return str(locate.store(os.environ).root)


def set_dir(d: str | os.PathLike[str]) -> None:
    """Use the store in the folder ``d`` from now on, in this process and those it starts (``HUBLOCK_CACHE_DIR``)."""
    os.environ["HUBLOCK_CACHE_DIR"] = str(Path(d).expanduser().absolute())


@contextmanager
def activated(*, allow_local: bool = False) -> Iterator[None]:
    """Answer every ``torch.hub`` call of this process from the lock inside the ``with`` block, however it was imported.

    Pythons that are started meanwhile, spawned workers among them, do the same: ``PYTHONPATH`` and ``HUBLOCK_PROJECT``
    tell them. ``get_dir`` and ``set_dir`` stay torch's own. ``source="local"`` runs a folder that no lock vouches for:
    it is refused unless ``allow_local``.

    Raises:
        MissingDependency: torch is not installed.
    """
    with torchhub.activated(instead(allow_local=allow_local)):
        try:
            _tell_children(allow_local=allow_local)
            yield
        finally:
            _end_telling()


def activate(*, allow_local: bool = False) -> None:
    """Answer every ``torch.hub`` call of this process from the lock from now on, as :func:`activated`; for notebooks.

    Raises:
        MissingDependency: torch is not installed.
    """
    torchhub.activate(instead(allow_local=allow_local))
    _tell_children(allow_local=allow_local)


_telling = ForkSafeLock()
_tellers = 0
"""How many have asked to tell children, and have not ended."""
_told: dict[str, tuple[str | None, str]] = {}
"""The variables that tell them: what each was before, and what it was made."""


def _tell_children(*, allow_local: bool) -> None:
    """Have Pythons that this process starts answer from the lock too, until the last who asked for it has ended."""
    global _tellers  # noqa: PLW0603 - the environment is process-wide
    from hublock.actions.run import answering
    from hublock.runtime import startup

    with _telling:
        _tellers += 1
        if startup.FOLDER in os.environ.get("PYTHONPATH", "").split(os.pathsep):
            # `hublock run` has told them, or another block
            return
        try:
            lock = locate.lock_file(os.environ).absolute()
        except NotLocked:
            # each call will say so, unless use() comes first
            lock = None
        for name, value in answering(os.environ, lock, allow_local=allow_local).items():
            if os.environ.get(name) != value:
                _told[name] = (os.environ.get(name), value)
                os.environ[name] = value


def _end_telling() -> None:
    global _tellers  # noqa: PLW0603 - the environment is process-wide
    with _telling:
        _tellers -= 1
        if _tellers:
            return
        # what the program has said since, by use() or set_dir(), stands
        for name, (before, _) in [item for item in _told.items() if os.environ.get(item[0]) == item[1][1]]:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
        _told.clear()


def instead(*, allow_local: bool) -> dict[str, Callable[..., Any]]:
    """Return the functions that answer in place of torch.hub's while the lock is activated."""

    # no option beside torch.hub's: an entry point may have a parameter of any other name
    def load_for_torch_hub(
        repo_or_dir: str,
        model: str,
        *args: Any,
        source: str = "github",
        force_reload: bool = False,
        **kwargs: Any,
    ) -> Any:
        _check_strings(model=model, source=source)
        if source.lower() == "local" and not allow_local:
            raise unvouched(repo_or_dir)
        for accepted in ("trust_repo", "verbose", "skip_validation"):
            kwargs.pop(accepted, None)
        return _load(repo_or_dir, model, args, kwargs, source=source, force_reload=force_reload, verify=None)

    return {
        "load": load_for_torch_hub,
        "list": list,
        "help": help,
        "download_url_to_file": download_url_to_file,
        "load_state_dict_from_url": _load_state_dict_for_torch_hub,
    }


def unvouched(folder: str) -> NotLocked:
    """Return the error for ``source="local"`` where every call is to be answered from the lock."""
    return NotLocked(
        f"{folder} is a folder of your own, for which no lock vouches",
        hint="hublock run --allow-local, or hublock.activate(allow_local=True)",
    )


def _load_state_dict_for_torch_hub(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = False,
) -> dict[str, Any]:
    if model_dir is None and file_name is not None:
        # who names the file means to find it where torch.hub would have put it
        model_dir = str(Path(torchhub.get_dir()) / "checkpoints")
    return load_state_dict_from_url(url, model_dir, map_location, progress, check_hash, file_name, weights_only)


@contextmanager
def modules(reference: str) -> Iterator[None]:
    """Give the modules of a locked repository their stock names inside the ``with`` block.

    For code that does ``from models.yolo import Model``, or unpickles such a class, after a load.

    Raises:
        NotLocked: the lock does not have the repository.
        OfflineError: its tree is not in the store.
        TreeMismatch: a file of it was changed.
        ValueError: ``reference`` is no string.
    """
    _check_strings(reference=reference)
    file, lock, store = _project()
    repo = locked_repo(lock, reference, file=str(file))
    with isolation.stock_names(loading.admitted(repo, lock, store)):
        yield


def _project() -> "tuple[Path, Lock, Store]":
    """Return the lock that answers this process, its content and the store."""
    file = locate.lock_file(os.environ)
    return file, read_named_lock(file), locate.store(os.environ)


def _answers() -> torchhub.Answers:
    _, lock, store = _project()
    return loading.answers_of_project(lock, store)


def _offer(github: str) -> "Offer":
    # only here: a load describes nothing
    from hublock.actions.offers import offer_of_locked

    file, lock, store = _project()
    repo = locked_repo(lock, github, file=str(file))
    offer = offer_of_locked(repo, store)
    if offer.estimated:
        warnings.warn(f"{repo.id} builds entry points at run time; some may be missing", stacklevel=3)
    return offer


@contextmanager
def _advised(url: str) -> Iterator[None]:
    """Say how a script's own download is locked."""
    try:
        yield
    except UnlockedDownload:
        shown = without_login(url)
        raise UnlockedDownload(
            f"{locate.lock_file(os.environ)} does not name {shown}",
            hint=f"hublock add --url {quote(shown)} --name NAME",
        ) from None
