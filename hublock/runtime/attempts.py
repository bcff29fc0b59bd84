"""One load of an entry point: run, held to what was refused, and begun again where other loads have spoilt it."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hublock.core.digest import Digest
from hublock.errors import UnlockedDownload
from hublock.runtime import isolation
from hublock.runtime.nested import LOOK, call_entrypoint, call_of, import_hubconf
from hublock.runtime.repository import Repository
from hublock.runtime.strict import placing, surroundings
from hublock.runtime.strict.randomness import random_state
from hublock.runtime.strict.reads import Beside
from hublock.runtime.strict.refusals import Refusal
from hublock.runtime.strict.scope import Scope, spoilt


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What came of a run."""

    result: Any
    hubconf: ModuleType
    refusals: tuple[Refusal, ...]
    """Everything that was refused and tolerated, in order."""
    given: frozenset[Digest]
    """Of the files that it was given, and of the user's own that it has loaded as checkpoints."""
    beside: Beside
    """What else it may have taken."""


def attempt(
    scope: Scope,
    repository: Repository,
    entrypoint: str | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    tolerated: Container[str],
    *,
    as_locked: bool = True,
    fetches: Iterable[str] = (),
) -> Watched:
    """Run an entry point inside ``scope``; None as entry point only imports hubconf.py.

    Args:
        scope: of this load.
        repository: the verified tree.
        entrypoint: as in ``torchhub.watch``.
        args: given to the entry point.
        kwargs: given to the entry point.
        tolerated: refusals that do not end the load.
        as_locked: whether the arguments are those of a locked call.
        fetches: the addresses of files that it may need.

    Raises:
        UnlockedDownload: something was refused, or other loads spoilt its modules again and again.
        Exception: as ``torchhub.watch``.
    """
    scope.tolerated, scope.as_locked = tolerated, as_locked
    for file in fetches:
        isolation.retire(spoilt.pop(file, ()))
    begin_again = random_state()
    for number in range(TRIES):
        if number:
            begin_again()
        done = _once(scope, repository, entrypoint, args, kwargs)
        if done is not None:
            return done
        scope.packages.clear()
        scope.disturbed, scope.alone = False, True
    message = f"{scope.owner} was loaded {TRIES} times beside loads that spoilt its modules"
    raise UnlockedDownload(message, hint="load it again")


TRIES = 5
"""How often a load begins again whose modules another one may have spoilt."""


def _once(
    scope: Scope, repository: Repository, entrypoint: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Watched | None:
    """Load once; None if that must be done again with modules that no other load has spoilt."""
    done = None
    with scope.entered():
        try:
            with surroundings.kept(scope, scope.packages.values()), scope.under_way():
                done = _called(scope, repository, entrypoint, args, kwargs)
        finally:
            isolation.end(scope.packages.values(), kept=done is not None)
            scope.end(kept=done is not None)
    return done


def _called(
    scope: Scope, repository: Repository, entrypoint: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Watched | None:
    result = None
    try:
        hubconf = import_hubconf(scope, repository, LOOK if entrypoint is None else call_of(entrypoint, args, kwargs))
        if entrypoint is not None:
            result = call_entrypoint(repository, hubconf, entrypoint, args, kwargs)
    except BaseException as error:
        refused = scope.first_refusal()
        if refused is not None:
            _refuse(scope)
        if isinstance(error, Exception) and refused is None and _is_disturbed(scope):
            return None
        if scope.refusals and refused is None:
            what = dict.fromkeys(refusal.what for refusal in scope.refusals)
            error.add_note(f"it was refused {', '.join(what)}")
        if refused is None or refused is error or isinstance(error, KeyboardInterrupt):
            raise
        raise refused from error
    refused = scope.first_refusal()
    if refused is not None:
        _refuse(scope)
        raise refused
    if _is_disturbed(scope):
        return None
    return Watched(
        result=result,
        hubconf=hubconf,
        refusals=tuple(scope.refusals),
        given=frozenset({*scope.by_digest, *scope.given_elsewhere}),
        beside=Beside(scope),
    )


def _refuse(scope: Scope) -> None:
    """Keep other loads from what a refused one may have left in its modules: a fallback, or half of a model."""
    isolation.retire(scope.packages.values())
    for repository in scope.repositories:
        placing.forget_copy(repository.root)
    for other in scope.beside():
        other.disturbed = True


def _is_disturbed(scope: Scope) -> bool:
    """Say whether a load must begin again with other modules: those it had, other loads have changed or will."""
    mixed = isolation.mixed((package, call) for (_, call), package in scope.packages.items())
    for other in scope.beside() if mixed else ():
        other.disturbed = True
    if not mixed and not scope.disturbed and all(other.first_refusal() is None for other in scope.beside()):
        return False
    isolation.retire(scope.packages.values())
    return True
