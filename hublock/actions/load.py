"""Load a locked model: everything is checked before the first line of foreign code runs."""

import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from hublock.core.arguments import encode, evaluate
from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, Repo, Weights
from hublock.core.matching import Match, same_arguments
from hublock.errors import DigestMismatch, InputError, NotLocked, OfflineError, UnlockedDownload
from hublock.runtime import environment, torchhub
from hublock.runtime.answers import LockedAnswers
from hublock.runtime.fingerprint import fingerprint
from hublock.runtime.repository import Repository, namespace_of
from hublock.runtime.strict.placing import writable_copy
from hublock.runtime.strict.refusals import ever_given
from hublock.store.store import Store

PROJECT = "the project"
NOBODY = Repo(id=PROJECT, ref="", commit="", tree=Digest("git-sha1", "0" * 40), digest=Digest("git-sha256", "0" * 64))
"""Stands for the project itself where answers want a repository."""
_ANEW = "load it in a new process"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of a locked entry point."""

    match: Match
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] | None = None


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
    alike = tuple(model for model in match.models if _called_as(model, call))
    drift = _check_environment(match, alike, lock, store, repository)
    _warn_once([f"{match.repo.id}: {sentence}" for sentence in drift], warn)
    args, kwargs = arguments(call, repository)
    done = torchhub.watch(
        repository,
        match.entrypoint,
        args,
        kwargs,
        answers=answers,
        tolerated={what for model in alike or match.models for what in model.tolerated},
        as_locked=bool(alike),
        mmap=mmap,
    )
    files = [_fetched_by(model) for model in alike or match.models]
    _check_fallback(call, files, done, of_their_kind=not alike)
    _warn_once(_check_asked(match, files, answers.given(), done, of_their_kind=not alike), warn)
    return done.result


def check_state(result: object, call: Call) -> None:
    """Compare every parameter and buffer of a loaded model with the fingerprint in the lock.

    Raises:
        NotLocked: the lock has no fingerprint for this call: its arguments are not the locked ones, or the entry point
            initialises at random, or the result has no parameters.
        DigestMismatch: the fingerprint is another one.
    """
    match = call.match
    alike = [model for model in match.models if _called_as(model, call)]
    states = {model.state for model in alike if model.state}
    if alike and not states and fingerprint(result) is None:
        raise NotLocked(
            f"{match.repo.id} {match.entrypoint} has no state to compare: what it returns holds no parameters",
            hint='leave out --load, or verify="state"',
        )
    if alike and not states:
        raise NotLocked(
            f"{match.repo.id} {match.entrypoint} is locked without a state: it initialises at random, "
            "or was not confirmed",
            hint=f"hublock lock --retrace {alike[0].name}, if it does not",
        )
    if not states:
        raise NotLocked(
            f"the lock has no state for this call of {match.repo.id} {match.entrypoint}",
            hint=f"hublock add {match.repo.id} {match.entrypoint} with these arguments",
        )
    state = fingerprint(result)
    if state not in states:
        expected = " or ".join(sorted(map(str, states)))
        told = f"the state {state}" if state else "a state that cannot be told"
        raise DigestMismatch(
            f"{match.repo.id} {match.entrypoint} was loaded with {told}, not the locked {expected}",
            hint="hublock verify --deep",
        )


def _called_as(model: Model, call: Call) -> bool:
    """Say whether a call has the arguments of ``model``; those given update the locked ones of the model it named."""
    named = call.match.named
    try:
        args = [encode(value) for value in call.args]
        kwargs = {key: encode(value) for key, value in (call.kwargs or {}).items()}
    except InputError:
        return False
    if named is not None:
        args, kwargs = args + list(named.args[len(args) :]), {**named.kwargs, **kwargs}
    return same_arguments(args, kwargs, model)


def verified(repo: Repo, lock: Lock, store: Store) -> Repository:
    """Return the tree of ``repo``, every byte of it compared with the lock; a copy of it if its code writes there.

    Raises:
        OfflineError: the tree is not in the store.
        TreeMismatch: a file was changed, added or removed.
    """
    try:
        tree = store.check_tree(repo.digest)
    except OfflineError:
        raise OfflineError(f"the tree of {repo.id} is not in the store", hint="hublock sync") from None
    root = writable_copy(tree.root) if lock.is_written(repo) else tree.root
    return Repository(id=repo.id, digest=repo.digest, root=root, listing=tree.listing)


def _check_environment(
    match: Match, alike: Sequence[Model], lock: Lock, store: Store, repository: Repository
) -> Sequence[str]:
    """Refuse, before any import, what cannot run here; return the drift from the traced versions.

    ``alike`` are the models with the arguments of this call: what they load from other repositories it will load too.
    """
    models = alike or ([match.named] if match.named else match.models)
    return environment.check(
        dependencies=[*match.repo.dependencies, *_of_nested(alike, lock, store)],
        requires=sorted({item for model in models for item in model.requires}),
        traced_with=sorted({item for model in models for item in model.traced_with}),
        exact=lock.environment == "exact",
        trees_own=repository.listing.top_names,
        of=match.repo.id,
    )


def _fetched_by(model: Model) -> dict[Digest, str]:
    """Return what a model fetches, as a user knows it."""
    files = {file.digest: file.url for file in model.weights}
    return files | {file.digest: f"{file.file} of {file.repo} at Hugging Face" for file in model.hf}


def _missed(files: Iterable[Mapping[Digest, str]], given: Container[Digest]) -> list[str] | None:
    """Return what a call has missed of what a model fetches; None if there is no model.

    Which of several models it is like nobody knows: the one of which it has missed least.
    """
    missed = ([name for digest, name in each.items() if digest not in given] for each in files)
    return min(missed, key=len, default=None)


def _check_fallback(
    call: Call, files: Sequence[Mapping[Digest, str]], done: torchhub.Watched, *, of_their_kind: bool
) -> None:
    """Refuse what may be the fallback of a load that was refused, unless it has the locked state.

    A library may have kept it, in an ``lru_cache`` or a global, from which nobody can free it, or a file may hold it.
    Where there is no state, a call passes that was given all that a model fetches. Where its arguments are other ones
    than the model's, that is if the model fetches something and the entry point was not refused a file itself; and it
    passes where what was refused was no file. A locked file that no load of the process was ever given is none that the
    locked call can do without, whatever its state.

    Raises:
        UnlockedDownload: there is such a library, which its code names if it is a call with other arguments, or it has
            read such a file.
    """
    missed = _missed(filter(None, files) if of_their_kind else files, done.given)
    kept = done.keepers(named=of_their_kind or missed == [])
    if missed == [] and not of_their_kind:
        # it was given all that is a file, and not the files of others
        kept = [item for item in kept if item.by_same or not item.file]
    left = [
        (path, refused)
        for path, refused in done.fallback_files().items()
        if not of_their_kind or _is_like(path, [*(missed or ()), *refused])
    ]
    if not kept and not left:
        return
    proof = _state_error(done.result, call)
    # labels, say, are no part of a state
    is_certain = bool(kept) and bool(_missed(files, {*done.given, *ever_given}))
    if proof is None and not is_certain:
        return
    if isinstance(proof, NotLocked):
        of_files = bool(left) or any(item.file for item in kept)
        was_refused = of_their_kind and any(item.file and item.by_same for item in kept)
        if not was_refused and (missed == [] or (of_their_kind and not of_files)):
            return
    doubts = [
        (f"{item.library} was refused {item.file or 'something'} before and may have kept what it took instead", _ANEW)
        for item in sorted(kept, key=lambda item: not item.file)
    ]
    doubts += [(f"it read {path}, which a load that was refused has written", f"rm {path}") for path, _ in left]
    reason, hint = doubts[0]
    what = f"did not ask for {missed[0]}, which is locked" if missed else "may have taken a fallback"
    raise UnlockedDownload(f"{call.match.repo.id} {call.match.entrypoint} {what}: {reason}", hint=hint) from proof


def _state_error(result: object, call: Call) -> NotLocked | DigestMismatch | None:
    try:
        check_state(result, call)
    except (NotLocked, DigestMismatch) as error:
        return error
    return None


def _check_asked(
    match: Match,
    files: Sequence[Mapping[Digest, str]],
    given: frozenset[Digest],
    done: torchhub.Watched,
    *,
    of_their_kind: bool,
) -> Iterator[str]:
    """Say where code may have taken a file of its own, as from a cache in HOME, for one that the lock names.

    Where it may as well have needed none, only what is ``of_their_kind`` counts.
    """
    read = done.users_files() if _missed(files, given) else {}
    missed = _missed(files, {*given, *done.given, *filter(None, read.values())}) or ()
    unknown = [
        path for path, digest in read.items() if digest is None and (not of_their_kind or _is_like(path, missed))
    ]
    if missed and unknown:
        yield (
            f"{match.repo.id} {match.entrypoint} did not ask for {missed[0]}, which is locked, "
            f"but read {', '.join(unknown[:3])}, which nobody has checked"
        )


def _is_like(path: str, names: Iterable[str]) -> bool:
    """Say whether a file may be of the kind of one of ``names``, by the end of its name."""
    return PurePath(path).suffix in {PurePath(name).suffix for name in names}


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

    Raises:
        OfflineError: its tree is not in the store.
        TreeMismatch: a file of it was changed.
    """
    for repo in lock.repos:
        if namespace_of(repo.id, repo.digest) == name:
            return admitted(repo, lock, store)
    return None


def admitted(repo: Repo, lock: Lock, store: Store) -> Repository:
    """Return the tree of ``repo``, verified, whose code may run as after a load: it fetches what its models may.

    Raises:
        OfflineError: the tree is not in the store.
        TreeMismatch: a file of it was changed.
        MissingDependency: torch cannot be imported.
    """
    repository = verified(repo, lock, store)
    torchhub.admit(repository, answers=LockedAnswers(lock, repo, repo.models, store))
    return repository


def load_folder(
    folder: Path, entrypoint: str, args: Sequence[object], kwargs: Mapping[str, object], lock: Lock, store: Store
) -> object:
    """Run an entry point of a folder of the user's own; what it downloads must be in the lock all the same.

    Raises:
        InputError: the folder has no hubconf.py.
        UnlockedDownload: it asked for what the lock does not name.
    """
    return torchhub.run_local(folder, entrypoint, args, kwargs, answers=answers_of_project(lock, store))


def answers_of_project(lock: Lock, store: Store) -> LockedAnswers:
    """Return answers for a script's own downloads: every URL of the lock, whoever it was locked for."""
    named = tuple(Weights(url=w.url, digest=w.digest, size=w.size, pickle=w.pickle) for w in lock.weights)
    models = [model for repo in lock.repos for model in repo.models]
    own = Model(name=PROJECT, entrypoint=PROJECT, weights=named)
    return LockedAnswers(lock, replace(NOBODY, models=(own,)), [own, *models], store)
