"""Which locked model a call means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from hublock.core.arguments import Value, encode, same
from hublock.core.cached import cached
from hublock.core.lockfile import Lock, Model, Repo
from hublock.core.nearest import nearest
from hublock.core.reference import Reference
from hublock.errors import InputError, InvalidReference, NotLocked


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The locked answer to a call."""

    repo: Repo
    entrypoint: str
    models: tuple[Model, ...]
    """Every locked model of that entry point: together they bound what the call may fetch."""
    named: Model | None = None
    """The one model the call named, whose arguments are the defaults."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a locked entry point."""

    match: Match
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] | None = None

    @cached
    def alike(self) -> tuple[Model, ...]:
        """The locked models that have its arguments; those given update the locked ones of the model it named."""
        named = self.match.named
        try:
            args = [encode(value) for value in self.args]
            kwargs = {key: encode(value) for key, value in (self.kwargs or {}).items()}
        except InputError:
            return ()
        if named is not None:
            args, kwargs = args + list(named.args[len(args) :]), {**named.kwargs, **kwargs}
        return tuple(model for model in self.match.models if same_arguments(args, kwargs, model))

    @property
    def is_locked(self) -> bool:
        """Whether its arguments are those of a locked model."""
        return bool(self.alike)

    @property
    def like(self) -> tuple[Model, ...]:
        """The models by which it is judged: all of its entry point where none has its arguments."""
        return self.alike or self.match.models


def same_arguments(args: Sequence[Value], kwargs: Mapping[str, Value], model: Model) -> bool:
    """Say whether arguments are those of ``model``, to the type."""
    return same(list(args), list(model.args)) and same(dict(kwargs), dict(model.kwargs))


def match(lock: Lock, repo_or_name: str, entrypoint: str | None, *, file: str) -> Match:
    """Find what ``load(repo_or_name, entrypoint)`` means; with ``entrypoint`` None, ``repo_or_name`` is a model's name.

    Raises:
        NotLocked: ``file``, the lock, does not have it; the nearest entries are named.
        InputError: it has several.
    """
    if entrypoint is None:
        return _by_name(lock, repo_or_name, file)
    repo = locked_repo(lock, repo_or_name, file=file)
    models = tuple(model for model in repo.models if model.entrypoint == entrypoint)
    if not models:
        known = sorted({model.entrypoint for model in repo.models})
        has = f"it locks {', '.join(known)}" if known else "no model of it is locked"
        raise NotLocked(
            f"{file} does not lock the entry point {entrypoint} of {repo.id}; {has}",
            hint=f"hublock add {quote(repo.id)} {quote(entrypoint)}",
        )
    return Match(repo=repo, entrypoint=entrypoint, models=models)


def locked_repo(lock: Lock, reference: str, *, file: str) -> Repo:
    """Return the entry of a repository, as requested: owner and name whatever their case, the ref to the letter.

    Raises:
        NotLocked: ``file``, the lock, has no such entry; entries of the same repository at other refs are named.
    """
    repo = lock.repo(reference)
    if repo is not None:
        return repo
    others = [repo.id for repo in lock.repos if _same_repository(repo.id, reference)]
    if others:
        raise NotLocked(
            f"{file} does not lock {reference}, but {', '.join(others)}",
            hint=f"load {others[0]!r}, or hublock add {quote(reference)} ENTRYPOINT",
        )
    raise NotLocked(
        f"{file} does not lock {reference}{nearest(reference, [repo.id for repo in lock.repos])}",
        hint=f"hublock add {quote(reference)} ENTRYPOINT",
    )


def _by_name(lock: Lock, name: str, file: str) -> Match:
    found = lock.by_name.get(name) or _as_added(lock, name)
    if found is None:
        instead = [f"load {name!r}, {model.entrypoint!r}" for repo, model in lock.by_name.values() if repo.id == name]
        if name in lock.weights_by_name:
            instead = [f"hublock.load_state_dict_from_url({lock.weights_by_name[name].url!r})"]
        raise NotLocked(
            f"{file} has no model {name}{nearest(name, [model.name for model in lock.models])}",
            hint=f"{instead[0] if instead else 'hublock list'}, or hublock add OWNER/REPO ENTRYPOINT",
        )
    repo, model = found
    models = tuple(other for other in repo.models if other.entrypoint == model.entrypoint)
    return Match(repo=repo, entrypoint=model.entrypoint, models=models, named=model)


def _as_added(lock: Lock, text: str) -> tuple[Repo, Model] | None:
    """Read ``owner/repo:entrypoint`` as `hublock add` does: an entry point of the default branch."""
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return None
    repo = lock.repo(str(reference.at(None))) if reference.kind == "github" and reference.ref else None
    if repo is None:
        return None
    models = [model for model in repo.models if reference.ref in (model.entrypoint, model.name)]
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise InputError(f"{text} is locked under several names: {names}", hint="load one of them by its name")
    return (repo, models[0]) if models else None


def _same_repository(left: str, right: str) -> bool:
    try:
        return Reference.parse(left).at(None).key == Reference.parse(right).at(None).key
    except InvalidReference:
        return False
