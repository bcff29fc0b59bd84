"""Move pins to what the hosts hold now: the one verb that moves or removes a pin, and shows what that changes."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from hublock.actions import moves
from hublock.actions.changing import changing
from hublock.actions.context import Context
from hublock.actions.lock import Locking, build
from hublock.actions.moves import Move
from hublock.actions.pin import pin_at
from hublock.actions.project import Project, read_named_lock
from hublock.actions.sources import locked_sources, python_files
from hublock.actions.trace import TraceOptions
from hublock.actions.upstream import check_file, proven_same, revision_commit
from hublock.core import changes, contract
from hublock.core.changes import Change
from hublock.core.contract import ContractChange
from hublock.core.findings import Rule
from hublock.core.inventory import LockedFile, address, addresses_of
from hublock.core.lockfile import Lock, Model, Repo
from hublock.core.manifest import Manifest
from hublock.core.nearest import nearest
from hublock.core.reference import Reference, is_commit, key_of
from hublock.errors import EntrypointNotFound, HublockError, InputError, NotLocked, RefNotFound, RepositoryNotFound
from hublock.net.download import Wanted
from hublock.net.git.refs import TAGS
from hublock.net.git.remote import Snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a user wants moved."""

    names: tuple[str, ...] = ()
    """Models, weights or repositories; none means all of them."""
    precise: str | None = None
    """A whole commit id to move the one repository to."""
    dry_run: bool = False
    allow_rewritten: bool = False
    """Follow a tag that was moved, or a branch without its own past."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """A repository whose pin moves."""

    move: Move
    contract: ContractChange | None
    """None where the old source can no longer be had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Updated:
    """What updating did, or under ``dry_run`` would do."""

    moved: tuple[Moved, ...]
    replaced: tuple[str, ...]
    """Addresses of files that have other bytes by now, in repositories that stay where they are."""
    changes: tuple[Change, ...] = ()
    """How the new lock differs from the old one."""
    locking: Locking | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Selection:
    repos: tuple[Repo, ...]
    models: tuple[Model, ...]
    weights: frozenset[str]


def update(project: Project, context: Context, request: Request, *, options: TraceOptions) -> Updated:
    """Move pins; nothing is written unless all of it succeeds, and under ``dry_run`` nothing at all.

    Models of a repository that moved are traced again, and so are those whose files have other bytes by now.

    Raises:
        InputError: ``precise`` is no whole commit id, or a ref was rewritten and nobody allowed that.
        NotLocked: there is no manifest, or no lock, or a name is not locked.
        EntrypointNotFound: the manifest uses an entry point that is gone.
        RemoteError: a host could not be asked, or no longer has a repository or a ref.
        HublockError: whatever locking raises of models that are traced again.
    """
    if request.precise is not None:
        _check_commit(request.precise)
    with nullcontext(project) if request.dry_run else changing(project, context, lock_only=True) as project:
        manifest, lock = project.read_manifest(), read_named_lock(project.lock)
        selected = _select(request, lock, str(project.lock))
        looks = moves.at_once(
            lambda repo: moves.look(repo, context, base=project.folder, precise=request.precise),
            selected.repos,
            context,
        )
        seen = _sure(looks)
        for move in seen:
            if move.resolved.warning:
                context.progress.warn(move.resolved.warning)
        away = _away(seen, request)
        snapshots = {move.repo.id: move.remote.fetch(move.resolved.commit, progress=context.progress) for move in away}
        moved = tuple(_compare(move, snapshots[move.repo.id], manifest, context, project) for move in away)
        replaced = _replaced(selected, lock, {move.repo.id for move in away}, context, request)
        if request.dry_run or not (moved or replaced):
            return Updated(moved=moved, replaced=replaced)
        fresh = {move.repo.id: _repinned(move, snapshots[move.repo.id], context) for move in away}
        done = build(manifest, _without(lock, fresh, set(replaced)), context, base=project.folder, options=options)
        done = replace(done, changed=project.write_lock(done.lock))
        return Updated(moved=moved, replaced=replaced, changes=changes.compare(lock, done.lock), locking=done)


def _check_commit(precise: str) -> None:
    """Refuse a name, which would be followed wherever it points: only ``allow_rewritten`` allows that."""
    # git's id of nothing is all zeros
    if not is_commit(precise) or not precise.strip("0"):
        raise InputError(
            f"--precise takes a whole commit id of 40 or 64 hex digits, not {precise!r}",
            hint="git ls-remote shows what a branch or tag names",
        )


def _select(request: Request, lock: Lock, file: str) -> _Selection:
    """Find what the names mean: a model stands for its repository and for its files."""
    if not request.names:
        chosen = _Selection(repos=lock.repos, models=lock.models, weights=frozenset(item.name for item in lock.weights))
    else:
        chosen = _named(request.names, lock, file)
    if request.precise and len(chosen.repos) != 1:
        raise InputError(
            f"--precise names a commit of one repository, not of {len(chosen.repos)}",
            hint=f"hublock update NAME --precise {request.precise}",
        )
    if request.precise and is_commit(Reference.parse(chosen.repos[0].id).ref or ""):
        raise InputError(
            f"{chosen.repos[0].id} names its commit itself",
            hint="name the other one in the manifest, then hublock lock",
        )
    return chosen


def _named(names: Collection[str], lock: Lock, file: str) -> _Selection:
    repos: dict[str, Repo] = {}
    models: dict[str, Model] = {}
    weights = set()
    for name in names:
        found = lock.by_name.get(name)
        if found is not None:
            repos[found[0].id], models[name] = found
        elif name in lock.weights_by_name:
            weights.add(name)
        else:
            repo = _repo(name, lock, file)
            repos[repo.id] = repo
            models |= {model.name: model for model in repo.models}
    return _Selection(repos=tuple(repos.values()), models=tuple(models.values()), weights=frozenset(weights))


def _repo(name: str, lock: Lock, file: str) -> Repo:
    try:
        repo = lock.repo(name)
    except InputError:
        repo = None
    if repo is None:
        raise NotLocked(
            f"{file} has no {name}{nearest(name, [*lock.names, *(repo.id for repo in lock.repos)])}",
            hint="hublock list",
        )
    return repo


def _sure(looks: Sequence[Move | HublockError]) -> list[Move]:
    """Return what all hosts told; where one has lost a repository, say that this holds the others back."""
    try:
        return moves.sure(looks)
    except (RepositoryNotFound, RefNotFound) as error:
        if len(looks) > 1:
            error.hint = "; ".join(filter(None, [error.hint, "hublock update NAME moves the others"]))
        raise


def _away(looks: Collection[Move], request: Request) -> list[Move]:
    """Return the repositories that are elsewhere by now; refuse those whose past was taken back."""
    away = [move for move in looks if move.trend != "same"]
    surprising = [move for move in away if move.surprising]
    if surprising and not request.allow_rewritten:
        told = "; ".join(_surprise(move) for move in surprising)
        raise InputError(
            told, hint=f"hublock update {shlex.join(request.names) or '--all'} --allow-rewritten, if you trust that"
        )
    return away


def _surprise(move: Move) -> str:
    ref, here, there = move.resolved.ref, move.repo.commit[:12], move.resolved.commit[:12]
    if move.strayed:
        return f"{move.repo.id} is locked at {here}, to which {move.repo.ref} led, and {ref} names {there}"
    if move.trend == "retagged" and ref != move.repo.ref and move.repo.ref.startswith(TAGS):
        taken = f"{move.repo.ref} of {move.repo.id} is gone, and {ref} took its name"
        return f"{taken}, at {there}, not the locked {here}"
    if move.trend == "retagged":
        return f"{ref} of {move.repo.id} was moved from {here} to {there}, and tags should not move"
    return f"{ref} of {move.repo.id} was rewritten: {there} does not have the locked {here} in its history"


def _compare(move: Move, new: Snapshot, manifest: Manifest, context: Context, project: Project) -> Moved:
    """Compare what the repository promises with what it promised; refuse to lose an entry point that is in use."""
    after = contract.read_contract(python_files(new.files), name=f"{move.repo.id} at {move.resolved.commit[:12]}")
    key = key_of(move.repo.id)
    users = [wanted for wanted in manifest.models if key_of(wanted.repo) == key]
    lost = [wanted for wanted in users if wanted.entrypoint not in after.entrypoints and not after.estimated]
    if lost:
        used = ", ".join(f"{wanted.entrypoint} (model {wanted.name})" for wanted in lost)
        raise EntrypointNotFound(
            f"{move.repo.id} at {move.resolved.commit[:12]} no longer has {used}, which {project.manifest} uses",
            hint=f"write its new entrypoint into [models.{lost[0].name}] and type that again, or keep the pin",
        )
    sources = locked_sources(move.repo, context, base=project.folder)
    if sources is None:
        return Moved(move=move, contract=None)
    before = contract.read_contract(sources, name=move.repo.id)
    return Moved(move=move, contract=contract.compare(before, after))


def _replaced(
    selected: _Selection, lock: Lock, away: Collection[str], context: Context, request: Request
) -> tuple[str, ...]:
    """Return the addresses of files that have other bytes by now, where the code stays what it is."""
    moving = {model.name for repo in lock.repos if repo.id in away for model in repo.models}
    models = [model for model in selected.models if model.name not in moving]
    weights = [item for item in lock.weights if item.name in selected.weights]
    hosted = {address(row): row for model in models for row in model.hf}
    files = [file for file in addresses_of(models, weights) if file.url not in hosted]
    differ = _differing(files, context, look=request.dry_run)
    commits = moves.at_once(lambda row: revision_commit(row, context), hosted.values(), context)
    return (
        *(file.url for file in differ),
        *(url for (url, row), commit in zip(hosted.items(), moves.sure(commits), strict=True) if commit != row.commit),
    )


def _differing(files: Sequence[LockedFile], context: Context, *, look: bool) -> list[LockedFile]:
    """Return the files whose URLs serve other bytes by now; unless their hosts say enough, only fetching them tells."""
    told = moves.sure(moves.at_once(lambda file: _told(file, context, look=look), files, context))
    unsure = [file for file, other in zip(files, told, strict=True) if other is None]
    fetched = context.downloader().fetch_all([Wanted(url=file.url) for file in unsure])
    other = [file for file, got in zip(unsure, fetched, strict=True) if got.digest != file.digest]
    # a mirror may have been the first to answer
    again = moves.sure(moves.at_once(lambda file: check_file(file, context, deep=True), other, context))
    differ = {file for file, found in zip(other, again, strict=True) if found is not None}
    return [file for file, is_other in zip(files, told, strict=True) if is_other or file in differ]


def _told(file: LockedFile, context: Context, *, look: bool) -> bool | None:
    """Tell whether a URL serves other bytes by now, by what its host says; None if that is not enough."""
    found = check_file(file, context)
    if found is not None and found.rule == Rule.UPSTREAM_FILE_GONE:
        context.progress.warn(f"{found.message}; its pin stays")
        return False
    if found is not None or look or proven_same(file, context):
        return found is not None
    return None


def _repinned(move: Move, snapshot: Snapshot, context: Context) -> Repo:
    """Bring the new tree of a repository into the store."""
    reference, allow = Reference.parse(move.repo.id), move.repo.allow_unreachable
    return pin_at(reference, move.resolved, snapshot, context, allow_unreachable=allow).repo


def _without(lock: Lock, fresh: Mapping[str, Repo], replaced: Collection[str]) -> Lock:
    """Return what stays pinned: not what was traced elsewhere, or with other bytes."""
    keys = {key_of(name) for name in fresh}

    def stays(repo: Repo, model: Model) -> bool:
        nested = {key_of(name) for name in model.repos}
        urls = {file.url for file in addresses_of([model])}
        return repo.id not in fresh and not nested & keys and not urls & set(replaced)

    repos = [
        replace(fresh.get(repo.id, repo), models=tuple(model for model in repo.models if stays(repo, model)))
        for repo in lock.repos
    ]
    weights = [item for item in lock.weights if item.url not in replaced]
    return replace(lock, repos=tuple(repos), weights=tuple(weights))
