"""What the manifest wants against what the lock answers: what to keep, what to find out, what to drop."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from hublock.core.inventory import addresses_of
from hublock.core.lockfile import Lock, Model, NamedWeights, Pickle, Repo
from hublock.core.manifest import Manifest, WantedModel, WantedWeights
from hublock.core.matching import same_arguments
from hublock.core.reference import key_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A model the lock does not answer yet."""

    wanted: WantedModel
    reason: str
    """Why, as a clause that follows the model's name: ``is not locked yet``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What ``hublock lock`` would do."""

    keep: tuple[str, ...]
    """Names of the models the lock answers."""
    trace: tuple[Pending, ...]
    fetch: tuple[WantedWeights, ...]
    """Named weights the lock does not answer yet."""
    reasons: tuple[str, ...]
    """Every way in which the lock does not answer the manifest, a sentence each that begins with the kind and the name
    of its entry (``model NAME``); empty when it is current."""


def plan(manifest: Manifest, lock: Lock) -> Plan:
    """Compare ``manifest`` with ``lock`` structurally; no digest is looked at."""
    trace: list[Pending] = []
    keep: list[str] = []
    reasons: list[str] = []
    locked_repos, models = lock.by_key, lock.by_name
    allowed = _Allowed(manifest, models)
    for wanted in manifest.models:
        found = models.get(wanted.name)
        reason = _unanswered(wanted, found, locked_repos, allowed)
        if reason:
            trace.append(Pending(wanted=wanted, reason=reason))
            reasons.append(f"model {wanted.name} {reason}")
        else:
            keep.append(wanted.name)
            if found and found[1].requires != wanted.requires:
                reasons.append(f"model {wanted.name} is locked with other `requires`")
    named = lock.weights_by_name
    lacking = {weights: reason for weights in manifest.weights if (reason := _lacks(weights, named.get(weights.name)))}
    fetch = tuple(lacking)
    reasons += [f"weights {weights.name} {reason}" for weights, reason in lacking.items()]
    reasons += _unwanted(manifest, lock)
    if manifest.environment != lock.environment:
        reasons.append(f'the lock says environment = "{lock.environment}", the manifest "{manifest.environment}"')
    reasons += [] if reasons else _otherwise(manifest, lock)
    return Plan(keep=tuple(keep), trace=tuple(trace), fetch=fetch, reasons=tuple(reasons))


class _Allowed:
    """What the models of a manifest allow, by the key of the repository that it is allowed to."""

    def __init__(self, manifest: Manifest, models: Mapping[str, tuple[Repo, Model]]) -> None:
        self.unreachable = {key_of(wanted.repo) for wanted in manifest.models if wanted.allow_unreachable}
        self.pickle: defaultdict[str, set[str]] = defaultdict(set)
        """The globals of checkpoints in its tree: the lock does not tell which of its models loads which."""
        for wanted in manifest.models:
            found = models.get(wanted.name)
            for name in (found[0].id, *found[1].repos) if found else ():
                self.pickle[key_of(name)].update(wanted.allow_pickle)


def _unanswered(
    wanted: WantedModel, found: tuple[Repo, Model] | None, repos: Mapping[str, Repo], allowed: _Allowed
) -> str | None:
    """Say why the lock, whose ``repos`` are given by their keys, does not answer ``wanted``, or return None."""
    if found is None:
        return "is not locked yet"
    repo, model = found
    if key_of(wanted.repo) != key_of(repo.id):
        return f"is locked from {repo.id}, the manifest wants {wanted.repo}"
    if wanted.entrypoint != model.entrypoint:
        return f"is locked with entry point {model.entrypoint}, the manifest wants {wanted.entrypoint}"
    if not same_arguments(wanted.args, wanted.kwargs, model):
        return "is locked with other arguments"
    if lost := [name for name in model.repos if key_of(name) not in repos]:
        return f"loads {', '.join(lost)}, which the lock does not hold"
    if repo.allow_unreachable and key_of(repo.id) not in allowed.unreachable:
        return "is locked at an unreachable commit, which the manifest no longer allows"
    if bool(wanted.urls) != (model.traced == "declared"):
        return "is declared in one file and traced in the other"
    if wanted.urls and set(wanted.urls) != {weights.url for weights in model.weights}:
        return "is locked with other declared URLs"
    if wanted.urls and set(wanted.tolerate) != set(model.tolerated):
        return "is locked with other declared refusals"
    if set(wanted.inputs) != {given.name for given in model.inputs}:
        return "is locked with other input files"
    missing = set(unconsented(model, wanted.allow_pickle))
    for key in map(key_of, (repo.id, *model.repos)):
        missing |= _globals(item.pickle for item in repos[key].tree_weights) - allowed.pickle[key]
    return f"needs consent to the pickle globals {', '.join(sorted(missing))}" if missing else None


def _lacks(wanted: WantedWeights, found: NamedWeights | None) -> str | None:
    """Say why the lock does not answer ``wanted``, or return None."""
    if found is None or found.url != wanted.url:
        return "are not locked yet"
    missing = sorted({*found.pickle} - {*wanted.allow_pickle}) if isinstance(found.pickle, tuple) else []
    return f"need consent to the pickle globals {', '.join(missing)}" if missing else None


def unconsented(model: Model, consent: Collection[str]) -> tuple[str, ...]:
    """Return the globals that the pickles of ``model`` name and ``consent`` does not."""
    return tuple(sorted(_globals(item.pickle for item in (*model.fetched, *model.inputs)) - set(consent)))


def _globals(verdicts: Iterable[Pickle]) -> set[str]:
    return {name for verdict in verdicts if isinstance(verdict, tuple) for name in verdict}


def _unwanted(manifest: Manifest, lock: Lock) -> list[str]:
    models = {model.name for model in manifest.models}
    weights = {item.name for item in manifest.weights}
    extra = [f"model {m.name} is locked but no longer wanted" for m in lock.models if m.name not in models]
    return extra + [f"weights {w.name} are locked but no longer wanted" for w in lock.weights if w.name not in weights]


def _otherwise(manifest: Manifest, lock: Lock) -> list[str]:
    """Say what a lock that answers every model of ``manifest`` says of its repositories beyond or against it."""
    meant = as_wanted(manifest, lock).by_key
    reasons = []
    for repo in lock.repos:
        other = meant.get(key_of(repo.id))
        if other is None:
            reasons.append(f"repository {repo.id} is locked but nothing loads it")
        elif other.allow_unreachable != repo.allow_unreachable:
            reasons.append(f"repository {repo.id} is not locked as one whose commit may be unreachable")
        elif set(map(key_of, other.via)) != set(map(key_of, repo.via)):
            reasons.append(f"repository {repo.id} is locked as loaded by {', '.join(repo.via) or 'none'}")
    return reasons


def under_new_names(manifest: Manifest, lock: Lock) -> Lock:
    """Return ``lock`` with each call that lost its name under the new one by which ``manifest`` wants it."""
    wanted = {model.name for model in manifest.models}
    nameless = [(key_of(repo.id), model) for name, (repo, model) in lock.by_name.items() if name not in wanted]
    names: dict[str, str] = {}
    for wish in manifest.models:
        same_calls = (
            model.name
            for key, model in nameless
            if (key, model.entrypoint) == (key_of(wish.repo), wish.entrypoint)
            and same_arguments(wish.args, wish.kwargs, model)
        )
        if wish.name not in lock.by_name and (old := next(same_calls, None)):
            names.setdefault(old, wish.name)
    if not names:
        return lock
    repos = (
        replace(repo, models=tuple(replace(model, name=names.get(model.name, model.name)) for model in repo.models))
        for repo in lock.repos
    )
    return replace(lock, repos=tuple(repos))


def as_wanted(manifest: Manifest, lock: Lock) -> Lock:
    """Return what ``lock``, which answers every model of ``manifest``, is without what nobody wants."""
    models = {name: (repo.id, model) for name, (repo, model) in lock.by_name.items()}
    return assemble(manifest, repos=lock.repos, models=models, weights=lock.weights)


def assemble(
    manifest: Manifest,
    *,
    repos: Iterable[Repo],
    models: Mapping[str, tuple[str, Model]],
    weights: Iterable[NamedWeights],
) -> Lock:
    """Put together the lock that answers ``manifest``: what nobody wants any more is left out.

    Args:
        manifest: what is wanted; its spelling of a reference decides a repository's id.
        repos: every pinned repository that may be needed.
        models: by name, the id of the repository and the locked model.
        weights: every named weights entry that may be needed.
    """
    wanted = {model.name: model for model in manifest.models}
    by_key: dict[str, list[Model]] = defaultdict(list)
    spelled: dict[str, set[str]] = defaultdict(set)
    unreachable: dict[str, bool] = defaultdict(bool)
    for name, wish in wanted.items():
        repo_id, model = models[name]
        key = key_of(repo_id)
        by_key[key].append(replace(model, requires=wish.requires))
        spelled[key].add(wish.repo)
        unreachable[key] |= wish.allow_unreachable
    ids = {key: min(names) for key, names in spelled.items()}
    kept = reachable(
        replace(repo, id=ids.get(key, repo.id), allow_unreachable=unreachable[key], models=tuple(by_key[key]))
        for key, repo in {key_of(repo.id): repo for repo in repos}.items()
    )
    names = {item.name for item in manifest.weights}
    return Lock(
        environment=manifest.environment,
        repos=tuple(kept),
        weights=tuple(item for item in weights if item.name in names),
    )


def without(lock: Lock, name: str) -> Lock:
    """Return ``lock`` without the entry ``name``, and without the repositories that nothing else in it loads."""
    repos = (replace(repo, models=tuple(model for model in repo.models if model.name != name)) for repo in lock.repos)
    return replace(lock, repos=reachable(repos), weights=tuple(item for item in lock.weights if item.name != name))


def reachable(repos: Iterable[Repo]) -> tuple[Repo, ...]:
    """Write down who loads whom, and leave out what nobody loads."""
    entries = list(repos)
    via: dict[str, set[str]] = defaultdict(set)
    for repo in entries:
        for nested in (nested for model in repo.models for nested in model.repos):
            via[key_of(nested)].add(repo.id)
    return tuple(
        replace(repo, via=tuple(via[key_of(repo.id)])) for repo in entries if repo.models or via[key_of(repo.id)]
    )


def unpinned(todo: Plan, old: Lock, new: Lock) -> tuple[str, ...]:
    """Return what is still ``todo`` for ``new``, but of whose pin only ``old`` knows."""
    repos = {key_of(repo.id) for repo in old.repos} - {key_of(repo.id) for repo in new.repos}
    was, now = ({file.url for file in addresses_of(lock.models, lock.weights)} for lock in (old, new))
    urls = was - now
    models = (pending.wanted for pending in todo.trace)
    lost = [model.name for model in models if key_of(model.repo) in repos or urls & set(model.urls)]
    return (*lost, *(weights.name for weights in todo.fetch if weights.url in urls))
