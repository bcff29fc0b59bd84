"""Load a locked model: everything is checked before the first line of foreign code runs."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hublock.actions import proof
from hublock.core.arguments import evaluate
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, Repo, Weights
from hublock.core.matching import Call
from hublock.runtime import environment, torchhub
from hublock.runtime.answers import LockedAnswers, verified
from hublock.runtime.repository import Repository, beginning_of, namespace_of
from hublock.runtime.strict.local import part_named
from hublock.store.store import Store

PROJECT = "the project"
NOBODY = Repo(id=PROJECT, ref="", commit="", tree=Digest("git-sha1", "0" * 40), digest=Digest("git-sha256", "0" * 64))
"""Stands for the project itself where answers want a repository."""


def load(
    call: Call, lock: Lock, store: Store, *, mmap: bool = False, warn: Callable[[str], None] | None = None
) -> object:
    """Run a locked entry point and return what it returns.

    In this order: what it fetches begins to be hashed, the tree is compared with the lock, what must be installed is
    looked for; only then is anything imported. ``mmap`` maps checkpoints into memory where their format allows it.
    ``warn`` is told what would else be a warning at the line that called ``hublock.load``.

    Raises:
        OfflineError: something is not in the store.
        IntegrityError: the stored bytes are not the locked ones.
        MissingDependency: packages are missing; all are named.
        EnvironmentMismatch: a package does not fit the manifest's ``requires``, or has drifted under ``exact``.
        EntrypointNotFound: hubconf.py does not define it.
        UnlockedDownload: it asked for what the lock does not name.
    """
    match = call.match
    answers = LockedAnswers(lock, match.repo, match.models, store)
    answers.prefetch()
    answers.check_sizes()
    repository = verified(match.repo, lock, store)
    drift = _check_environment(call, lock, store, repository)
    _warn_once([f"{match.repo.id}: {sentence}" for sentence in drift], warn)
    args, kwargs = arguments(call, repository)
    done = torchhub.watch(
        repository,
        match.entrypoint,
        args,
        kwargs,
        answers=answers,
        tolerated={what for model in call.like for what in model.tolerated},
        as_locked=call.is_locked,
        fetches=proof.may_fetch(call),
        mmap=mmap,
    )
    proof.check_fallback(call, done)
    _warn_once(proof.unchecked(call, done), warn)
    return done.result


def _check_environment(call: Call, lock: Lock, store: Store, repository: Repository) -> Sequence[str]:
    """Refuse, before any import, what cannot run here; return the drift from the traced versions.

    What models with the arguments of this call load from other repositories it will load too.
    """
    match = call.match
    models = call.alike or ([match.named] if match.named else match.models)
    return environment.check(
        dependencies=[*match.repo.dependencies, *_of_nested(call.alike, lock, store)],
        requires=sorted({item for model in models for item in model.requires}),
        traced_with=sorted({item for model in models for item in model.traced_with}),
        exact=lock.environment == "exact",
        trees_own=repository.listing.top_names,
        of=match.repo.id,
    )


def _of_nested(models: Sequence[Model], lock: Lock, store: Store) -> list[str]:
    """Return what the repositories need that ``models`` load from within, except what their trees hold themselves."""
    named = sorted({name for model in models for name in model.repos})
    nested = [repo for name in named if (repo := lock.repo(name)) is not None and repo.dependencies]
    trees = [(repo, store.tree(repo.digest)) for repo in nested]
    return [
        name
        for repo, tree in trees
        for name in repo.dependencies
        if tree is not None and name.partition(".")[0] not in tree.listing.top_names
    ]


def arguments(call: Call, repository: Repository) -> tuple[list[object], dict[str, object]]:
    """Return the arguments of a call: those given update the locked ones of the model it named."""
    named = call.match.named
    given = dict(call.kwargs or {})
    if named is None:
        return list(call.args), given

    def resolve(name: str) -> object:
        return torchhub.resolve_object(repository, name)

    locked = [evaluate(value, resolve) for value in named.args]
    args = list(call.args) + locked[len(call.args) :]
    return args, {key: evaluate(value, resolve) for key, value in named.kwargs.items() if key not in given} | given


_warned: set[str] = set()


def _warn_once(sentences: Iterable[str], warn: Callable[[str], None] | None) -> None:
    for sentence in sentences:
        if sentence in _warned:
            continue
        _warned.add(sentence)
        if warn is not None:
            warn(sentence)
        else:
            # the line that called hublock.load
            warnings.warn(sentence, stacklevel=5)


def repository_of(name: str, lock: Lock, store: Store) -> Repository | None:
    """Return the locked repository whose namespace is ``name``, admitted; None if the lock has none.

    Or the folder of one that its own code has loaded as a repository.

    Raises:
        OfflineError: its tree is not in the store.
        TreeMismatch: a file of it was changed.
    """
    for repo in lock.repos:
        if namespace_of(repo.id, repo.digest) == name:
            return admitted(repo, lock, store)
    for repo in lock.repos:
        if name.startswith(beginning_of(repo.id)):
            part = part_named(name, verified(repo, lock, store))
            if part is not None:
                return _admit(part, repo, lock, store)
    return None


def admitted(repo: Repo, lock: Lock, store: Store) -> Repository:
    """Return the tree of ``repo``, verified, whose code may run as after a load: it fetches what its models may.

    Raises:
        OfflineError: the tree is not in the store.
        TreeMismatch: a file of it was changed.
        MissingDependency: torch cannot be imported.
    """
    return _admit(verified(repo, lock, store), repo, lock, store)


def _admit(repository: Repository, repo: Repo, lock: Lock, store: Store) -> Repository:
    tolerated = {what for model in repo.models for what in model.tolerated}
    torchhub.admit(repository, answers=LockedAnswers(lock, repo, repo.models, store), tolerated=tolerated)
    return repository


def load_folder(
    folder: Path, entrypoint: str, args: Sequence[object], kwargs: Mapping[str, object], lock: Lock, store: Store
) -> object:
    """Run an entry point of a folder of the user's own; what it downloads must be in the lock all the same.

    Raises:
        InputError: the folder has no hubconf.py.
        UnlockedDownload: it asked for what the lock does not name.
    """
    done = torchhub.watch_local(folder, entrypoint, args, kwargs, answers=answers_of_project(lock, store))
    proof.check_local(f"{folder} {entrypoint}", done)
    return done.result


def answers_of_project(lock: Lock, store: Store) -> LockedAnswers:
    """Return answers for a script's own downloads: every URL of the lock, whoever it was locked for."""
    named = tuple(Weights(url=w.url, digest=w.digest, size=w.size, pickle=w.pickle) for w in lock.weights)
    own = Model(name=PROJECT, entrypoint=PROJECT, weights=named)
    return LockedAnswers(lock, replace(NOBODY, models=(own,)), [own, *lock.models], store)
