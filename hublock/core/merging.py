"""Merging two locks by entry, and two traces of one model.

A model was traced at one commit of its repository, so a repository whose pin moved on one side is taken whole, with
its models, and only if the other side left it alone. Everything else is merged row by row.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Model, NamedWeights, Repo, TreeWeights
from hublock.core.plan import reachable
from hublock.core.reference import key_of

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Merge:
    """What merging gave: without conflicts, ``ours`` and ``theirs`` are the same lock."""

    ours: Lock
    """The merged lock, with our entries where both sides disagree."""
    theirs: Lock
    """The merged lock, with their entries where both sides disagree."""
    conflicts: tuple[str, ...]
    """What both sides changed, each in its own way: ids of repositories and names of weights."""


class _Conflict(Exception):
    """Both sides changed the same thing."""


def merge_locks(base: Lock, ours: Lock, theirs: Lock) -> Merge:
    """Merge what two sides made of ``base``; an entry that only one side changed is taken from it."""
    repos = [lock.by_key for lock in (base, ours, theirs)]
    weights = [lock.weights_by_name for lock in (base, ours, theirs)]
    merged_repos, split_repos = _three_way(repos, _merge_repo)
    merged_weights, split_weights = _three_way(weights, _pick)
    while True:
        kept = [repo for key, repo in merged_repos.items() if key not in split_repos]
        named = [item for name, item in merged_weights.items() if name not in split_weights]
        quarrels = _quarrels(kept, named, (ours, theirs))
        if not quarrels:
            break
        split_repos |= {key_of(owner) for owner, _ in quarrels if owner}
        split_weights |= {name for owner, name in quarrels if not owner}
    try:
        environment = _pick(base.environment, ours.environment, theirs.environment)
        environments = (environment, environment)
    except _Conflict:
        environments = (ours.environment, theirs.environment)
    sides = [
        Lock(
            environment=choice,
            repos=reachable([*kept, *(repos[side][key] for key in split_repos if key in repos[side])]),
            weights=(*named, *(weights[side][name] for name in split_weights if name in weights[side])),
        )
        for side, choice in zip((1, 2), environments, strict=True)
    ]
    ids = {key: repo.id for side in repos for key, repo in side.items()}
    return Merge(
        ours=sides[0],
        theirs=sides[1],
        conflicts=(
            *(["environment"] if len(set(environments)) > 1 else []),
            *sorted(ids[key] for key in split_repos),
            *sorted(split_weights),
        ),
    )


def agreed(ours: Lock, theirs: Lock) -> tuple[Lock, tuple[str, ...]]:
    """Return every pin on which two sides do not contradict each other, and the names of what was left out.

    What only one side has is kept: the manifest decides whether it is wanted.
    """
    left, right = ours.by_key, theirs.by_key
    repos, contested = _three_way(({}, left, right), _agree)
    weights, names = _three_way(({}, ours.weights_by_name, theirs.weights_by_name), _pick)
    names |= {
        name for key in repos for name in _three_way(({}, _models(left.get(key)), _models(right.get(key))), _pick)[1]
    }
    while True:
        kept = [_without(repo, names) for repo in repos.values()]
        named = [item for item in weights.values() if item.name not in names]
        wrong = {name for _, name in _quarrels(kept, named, (ours, theirs))} - names
        if not wrong:
            ids = {key: repo.id for side in (left, right) for key, repo in side.items()}
            return Lock(environment=ours.environment, repos=tuple(kept), weights=tuple(named)), (
                *sorted(ids[key] for key in contested),
                *sorted(names),
            )
        names |= wrong


def _agree(_: Repo | None, ours: Repo | None, theirs: Repo | None) -> Repo | None:
    if ours is None or theirs is None:
        return ours or theirs
    if _pin(ours) != _pin(theirs):
        raise _Conflict
    models = _three_way(({}, _models(ours), _models(theirs)), _pick)[0]
    return replace(
        ours,
        allow_unreachable=ours.allow_unreachable and theirs.allow_unreachable,
        tree_weights=_merge_verdicts(ours.tree_weights, theirs.tree_weights),
        models=tuple(models.values()),
    )


def _without(repo: Repo, names: Collection[str]) -> Repo:
    return replace(repo, models=tuple(model for model in repo.models if model.name not in names))


def _three_way(
    versions: Iterable[Mapping[str, T]], pick: Callable[[T | None, T | None, T | None], T | None]
) -> tuple[dict[str, T], set[str]]:
    """Merge tables row by row; ``versions`` are base, ours and theirs."""
    base, ours, theirs = versions
    merged: dict[str, T] = {}
    split: set[str] = set()
    for key in dict.fromkeys([*ours, *theirs]):
        try:
            found = pick(base.get(key), ours.get(key), theirs.get(key))
        except _Conflict:
            split.add(key)
            continue
        if found is not None:
            merged[key] = found
    return merged, split


def _pick(base: T, ours: T, theirs: T) -> T:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    raise _Conflict


def _merge_repo(base: Repo | None, ours: Repo | None, theirs: Repo | None) -> Repo | None:
    if ours is None or theirs is None or _pin(ours) != _pin(theirs):
        # `via` follows from the models of others
        only = ours or theirs
        if only is not None and not (ours and theirs) and (base is None or not only.models):
            return only
        return _pick(*(replace(repo, via=()) if repo else None for repo in (base, ours, theirs)))
    models, split = _three_way([_models(repo) for repo in (base, ours, theirs)], _pick)
    if split:
        raise _Conflict
    return replace(
        ours,
        allow_unreachable=_pick(
            base.allow_unreachable if base else False, ours.allow_unreachable, theirs.allow_unreachable
        ),
        tree_weights=_merge_verdicts(ours.tree_weights, theirs.tree_weights),
        models=tuple(models.values()),
    )


def _pin(repo: Repo) -> tuple[object, ...]:
    """What a repository is pinned to; verdicts on its files are found out one by one, so they do not count."""
    return key_of(repo.id), repo.ref, repo.commit, repo.tree, repo.digest, repo.dependencies, repo.submodules


def _models(repo: Repo | None) -> dict[str, Model]:
    return {model.name: model for model in repo.models} if repo else {}


def _merge_verdicts(ours: Iterable[TreeWeights], theirs: Iterable[TreeWeights]) -> tuple[TreeWeights, ...]:
    found = {row.path: row for row in ours}
    for row in theirs:
        if found.setdefault(row.path, row) != row:
            raise _Conflict
    return tuple(found.values())


def _quarrels(
    repos: Collection[Repo], weights: Collection[NamedWeights], locks: Collection[Lock]
) -> set[tuple[str, str]]:
    """Return the entries, as id of the repository (empty for weights) and name, that cannot stand in one lock.

    A name is given once, a URL has one digest and size, and a model needs the repositories that it loads as they were
    when it was traced.
    """
    wrong: set[tuple[str, str]] = set()
    names: dict[str, tuple[str, str]] = {}
    holders: dict[tuple[str, ...], dict[_Bytes, set[tuple[str, str]]]] = {}
    pins = {key_of(repo.id): _pin(repo) for repo in repos}
    for owner, files in _entries(repos, weights):
        first = names.setdefault(owner[1], owner)
        wrong |= {owner, first} if first != owner else set()
        for identity, data in files:
            holders.setdefault(identity, {}).setdefault(data, set()).add(owner)
    for by_bytes in holders.values():
        wrong |= set().union(*by_bytes.values()) if len(by_bytes) > 1 else set()
    for repo in repos:
        wrong |= {(repo.id, model.name) for model in repo.models if not _as_traced(model, pins, locks)}
    return wrong


_Bytes = tuple[Digest, int]
_Files = list[tuple[tuple[str, ...], _Bytes]]


def _entries(repos: Iterable[Repo], weights: Iterable[NamedWeights]) -> Iterator[tuple[tuple[str, str], _Files]]:
    for repo in repos:
        for model in repo.models:
            files: _Files = [((row.url,), (row.digest, row.size)) for row in model.weights]
            files += [((row.repo, row.type, row.revision, row.file), (row.digest, row.size)) for row in model.hf]
            yield (repo.id, model.name), files
    for item in weights:
        yield ("", item.name), [((item.url,), (item.digest, item.size))]


def _as_traced(model: Model, pins: Mapping[str, object], locks: Iterable[Lock]) -> bool:
    """Tell whether some side locked ``model`` beside the very pins that it would stand beside now."""
    if not model.repos:
        return True
    for lock in locks:
        found = lock.by_name.get(model.name)
        if found is not None and found[1] == model:
            nested = {key_of(name): lock.repo(name) for name in model.repos}
            if all(repo is not None and pins.get(key) == _pin(repo) for key, repo in nested.items()):
                return True
    return False


def both_traces(old: Model, new: Model) -> Model:
    """Return what a second trace of a model saw, added to what the first one saw; nothing is removed."""
    # of another input the old trace says nothing
    proven = old.traced != "confirmed" or old.state == new.state or old.inputs != new.inputs
    return replace(
        new,
        state=new.state if proven else None,
        repos=tuple({*old.repos, *new.repos}),
        weights=tuple({item.url: item for item in (*old.weights, *new.weights)}.values()),
        hf=tuple({(item.repo, item.type, item.revision, item.file): item for item in (*old.hf, *new.hf)}.values()),
        replies=tuple({(item.method, item.url): item for item in (*old.replies, *new.replies)}.values()),
        tolerated=tuple({*old.tolerated, *new.tolerated}),
        writes_tree=old.writes_tree or new.writes_tree,
    )
