"""Answer what the manifest wants and the lock does not answer yet; never move a pin."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from shlex import quote

from hublock.actions.changing import changing
from hublock.actions.consent import demand
from hublock.actions.context import Context
from hublock.actions.fetching import FetchingAnswers
from hublock.actions.merge import recover
from hublock.actions.offers import recall, remember
from hublock.actions.pin import Pinned, pin_once, renamed, warn_if_odd
from hublock.actions.project import Project
from hublock.actions.secrets import check_url, refuse_tokens
from hublock.actions.trace import Traced, TraceOptions, called, trace_model
from hublock.actions.verdicts import scan_file
from hublock.core.canonical import dump_lock, is_canonical
from hublock.core.lockfile import Lock, Model, NamedWeights, Repo
from hublock.core.lockreader import parse_lock
from hublock.core.manifest import Manifest, WantedModel
from hublock.core.merging import both_traces
from hublock.core.nearest import nearest
from hublock.core.plan import Pending, Plan, assemble, plan, under_new_names
from hublock.core.reference import Reference, key_of
from hublock.errors import EntrypointNotFound, IncompleteTrace, InputError, NotLocked, StaleLock, TransferError
from hublock.net.download import Wanted
from hublock.net.routes import check
from hublock.runtime import environment


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedModel:
    """One model that was locked just now, as a user is told of it."""

    call: str
    repo: Repo
    model: Model
    committed: datetime | None
    parameters: tuple[str, ...]
    """The parameters of its entry point, to point at those that choose weights."""
    random: bool
    """Its tensors differ from run to run, which is not known of what holds none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Locking:
    """What locking did."""

    lock: Lock
    changed: bool
    models: tuple[LockedModel, ...] = ()
    dropped: tuple[str, ...] = ()
    consent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By model or weights, the pickle globals consented to on the way, for the manifest to remember."""


def lock_project(
    project: Project, context: Context, *, options: TraceOptions, retrace: Collection[str] = ()
) -> Locking:
    """Bring ``hub.lock`` up to date with the manifest; nothing is written unless all of it succeeds.

    A lock that git left in conflict is recovered: what both sides agree on stays pinned, the rest is found out again.

    Raises:
        NotLocked: there is no manifest, or a model to trace again is not locked.
        InputError: manifest or lock is not valid, or the manifest names a URL that is never fetched.
        StaleLock: somebody else has changed the lock meanwhile.
        StoreError: the project or the store cannot be written.
        RemoteError: a repository or a file could not be fetched.
        IntegrityError: something fetched is not what the lock has of it, or must not be unpacked.
        EnvironmentMismatch: packages that a model needs are not installed.
        LoadError: a model could not be traced.
    """
    with changing(project, context, lock_only=True) as project:
        manifest, old = project.read_manifest(), recover(project, context.progress)
        done = build(manifest, old, context, base=project.folder, options=options, retrace=retrace)
        return replace(done, changed=project.write_lock(done.lock))


def check_lock(project: Project) -> tuple[str, ...]:
    """Return every way in which the lock does not answer the manifest, without changing anything.

    Raises:
        StaleLock: there is no lock at all.
        NotLocked: there is no manifest.
        InputError: manifest or lock is not valid.
    """
    manifest = project.read_manifest()
    if not project.lock.exists() and (manifest.models or manifest.weights):
        raise StaleLock(f"{project.lock} does not exist", hint="hublock lock")
    reasons = plan(manifest, project.read_lock()).reasons
    edited = project.lock.exists() and not is_canonical(project.lock_text())
    return (*reasons, "it was edited by hand, it is not as hublock writes it") if edited else reasons


def build(
    manifest: Manifest,
    old: Lock,
    context: Context,
    *,
    base: Path,
    options: TraceOptions,
    retrace: Collection[str] = (),
) -> Locking:
    """Find out what ``old`` does not answer of ``manifest``; nothing but the store is written.

    Raises as :func:`lock_project` does.
    """
    refuse_tokens(repr(manifest), "the manifest", context)
    known = under_new_names(manifest, old)
    todo = plan(manifest, known)
    _check_addresses(todo, context)
    pool = dict(known.by_key)
    models = {name: (repo.id, model) for name, (repo, model) in known.by_name.items()}
    consent: dict[str, tuple[str, ...]] = {}
    locked = []
    for pending in (*todo.trace, *_again(manifest, todo, models, retrace)):
        wanted = pending.wanted
        context.progress.note(f"{wanted.name} {pending.reason}")
        reference, allow = Reference.parse(wanted.repo), wanted.allow_unreachable
        if wanted.name in models and reference.key not in pool:
            moved = renamed(pool[key_of(models[wanted.name][0])], reference, context, base=base)
            if moved is not None:
                pool[reference.key] = moved
        so_far = _so_far(pool, models, old.weights)
        pinned = pin_once(reference, so_far, context, base=base, allow_unreachable=allow)
        found = _find_out(wanted, pinned, so_far, context, base=base, options=options)
        repo, model = found.repo, found.model
        if wanted.name in todo.keep and model.traced != "declared":
            model = both_traces(models[wanted.name][1], model)
        consent[wanted.name] = found.consent
        pool.update({key_of(item.repo.id): item.repo for item in found.nested} | {key_of(repo.id): repo})
        models[wanted.name] = (repo.id, model)
        offered = recall(pinned.tree, repo.id, context.store, pinned.hubconf).entrypoints
        parameters = next((entry.parameters for entry in offered if entry.name == wanted.entrypoint), ())
        locked.append(
            LockedModel(
                call=called(wanted),
                repo=repo,
                model=model,
                committed=pinned.committed,
                parameters=parameters,
                random=found.random,
            )
        )
    weights = dict(old.weights_by_name)
    named = _named(manifest, _so_far(pool, models, old.weights), context, allow_pickle=options.allow_pickle)
    weights |= {item.name: item for item, _ in named}
    consent |= {item.name: agreed for item, agreed in named}
    lock = assemble(manifest, repos=pool.values(), models=models, weights=weights.values())
    _check_recordable(lock)
    refuse_tokens(repr(lock), "the new lock", context)
    return Locking(
        lock=lock,
        changed=lock != old,
        models=tuple(locked),
        dropped=tuple(name for name in known.names if name not in lock.names),
        consent={name: names for name, names in consent.items() if names},
    )


def check_address(url: str, context: Context, *, where: str = "", hint: str) -> None:
    """Refuse a URL that a user wrote and that is never fetched, before anybody is asked.

    Raises:
        InputError: it is no http or https URL, or plain http where no mirror rule allows that; ``where`` goes first.
    """
    try:
        check(context.transport.routes(url)[0])
    except TransferError as error:
        raise InputError(f"{where}{error.message}", hint=error.hint or hint) from None


def _check_addresses(todo: Plan, context: Context) -> None:
    urls = [(f"models.{pending.wanted.name}.urls", url) for pending in todo.trace for url in pending.wanted.urls]
    urls += [(f"weights.{item.name}.url", item.url) for item in todo.fetch]
    for key, url in urls:
        check_address(url, context, where=f"{key} of the manifest: ", hint="correct it, then hublock lock")


def _check_recordable(lock: Lock) -> None:
    """Refuse, before anything is written, what foreign code asked for or said of itself that no lock can hold."""
    try:
        parse_lock(dump_lock(lock), file="the lock")
    except (InputError, ValueError) as error:
        reason = error.message if isinstance(error, InputError) else error
        raise IncompleteTrace(f"what was traced cannot be recorded: {reason}", hint="hublock add -v …") from None


def _so_far(
    pool: Mapping[str, Repo], models: Mapping[str, tuple[str, Model]], weights: tuple[NamedWeights, ...]
) -> Lock:
    """Return what is known by now: a repository has one pin and a URL one digest in a whole lock."""
    repos = (
        replace(repo, models=tuple(model for repo_id, model in models.values() if key_of(repo_id) == key))
        for key, repo in pool.items()
    )
    return Lock(repos=tuple(repos), weights=weights)


def _again(manifest: Manifest, todo: Plan, models: Mapping[str, object], retrace: Collection[str]) -> Iterable[Pending]:
    """Yield what is found out once more although the lock answers it."""
    wanted = {model.name: model for model in manifest.models}
    for name in dict.fromkeys(retrace):
        if name not in wanted or name not in models:
            raise NotLocked(f"no model {name} is locked{nearest(name, models)}", hint="hublock list")
        if name in todo.keep:
            yield Pending(wanted=wanted[name], reason="is traced again")


def _find_out(
    wanted: WantedModel, pinned: Pinned, so_far: Lock, context: Context, *, base: Path, options: TraceOptions
) -> Traced:
    if wanted.urls:
        answers = FetchingAnswers(wanted, pinned, so_far, context, base=base, allow_pickle=options.allow_pickle)
        return Traced(model=answers.declared(), nested=(), consent=answers.consent, entrypoints=(), repo=pinned.repo)
    if not pinned.hubconf.dynamic:
        _check_entrypoint(wanted, pinned)
    environment.check(
        dependencies=pinned.repo.dependencies,
        requires=wanted.requires,
        trees_own=pinned.tree.listing.top_names,
        of=pinned.repo.id,
    )
    traced = trace_model(wanted, pinned, so_far, context, base=base, options=options)
    remember(pinned.tree, traced.entrypoints, context.store)
    return traced


def _check_entrypoint(wanted: WantedModel, pinned: Pinned) -> None:
    """Refuse a name that hubconf.py surely does not define, before anything runs."""
    names = [entry.name for entry in pinned.hubconf.entrypoints]
    if wanted.entrypoint not in names:
        raise EntrypointNotFound(
            f"{wanted.repo} has no entry point {wanted.entrypoint}{nearest(wanted.entrypoint, names)}",
            hint=f"hublock list {quote(wanted.repo)}",
        )


def _named(
    manifest: Manifest, so_far: Lock, context: Context, *, allow_pickle: bool
) -> list[tuple[NamedWeights, tuple[str, ...]]]:
    """Fetch the named weights that the lock does not answer yet, each with what was consented to on the way."""
    missing = plan(manifest, so_far).fetch
    digests = {row.url: row.digest for row in so_far.url_files}
    for item in missing:
        check_url(item.url, context)
    fetched = context.downloader().fetch_all([Wanted(url=item.url, digest=digests.get(item.url)) for item in missing])
    found = []
    for item, got in zip(missing, fetched, strict=True):
        warn_if_odd(got, context)
        pickle = scan_file(got.path)
        agreed = demand(item, item.url, pickle, allow=allow_pickle)
        weights = NamedWeights(name=item.name, url=item.url, digest=got.digest, size=got.size, pickle=pickle)
        found.append((weights, agreed))
    return found
