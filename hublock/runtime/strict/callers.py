"""Who calls: the load that its context tells of, else the one whose code is on the stack, or the user's own code."""

import os

from hublock.runtime.repository import Repository, base_of, namespace
from hublock.runtime.strict.frames import innermost_namespace
from hublock.runtime.strict.scope import (
    OUTSIDE,
    PROCESS,
    Following,
    Inherited,
    Scope,
    current_scope,
    namespaces,
    under_way,
)


def current() -> Scope | None:
    """Return the scope of whoever calls, or None for the user's own code."""
    scope = current_scope.get()
    return None if scope is OUTSIDE else _told_by(scope) or PROCESS.program_of


def _told_by(scope: object) -> Scope | None:
    if isinstance(scope, Following):
        if scope.scope.loading:
            return scope.scope
        # nothing tells of two loads which one gave the job, nor of none whether the user did
        others = list(under_way)
        giver = others[0] if len(others) == 1 else None
        return _of_frames(giver if scope.in_library else scope.scope)
    if isinstance(scope, Inherited):
        return _of_frames(scope.scope)
    if scope is None:
        return _of_frames(None, is_users=True) if namespaces else None
    if isinstance(scope, Scope) and scope.over:
        # a task that the load has begun lives on
        return _of_frames(scope)
    return scope if isinstance(scope, Scope) else None


def _of_frames(otherwise: Scope | None, *, is_users: bool = False) -> Scope | None:
    """Return the scope whose code calls; ``is_users`` in a thread that no load has started."""
    marker = innermost_namespace()
    if marker is None:
        return otherwise
    return answering(marker, is_users=is_users)


def answering(package: str, *, is_users: bool) -> Scope | None:
    """Return the scope of the code below ``package``; ``is_users`` as in a thread that no load has started."""
    scopes = list(namespaces.get(base_of(package), {}).values())
    if is_users:
        # a model of a load that has ended, unless only one under way has these modules
        scopes.sort(key=lambda s: (package in {*s.names, *s.packages.values(), *s.former}, not s.loading))
    return scopes[-1] if scopes else None


def loading() -> Scope | None:
    """Return the load under way that calls, as far as its context tells; frames are not looked at."""
    scope = current_scope.get()
    scope = scope.scope if isinstance(scope, Following) else scope
    return scope if isinstance(scope, Scope) and scope.loading else None


def noting() -> Scope | None:
    """Return the load, or the one whose program this is, that takes note of the files that are opened here."""
    return None if current_scope.get() is OUTSIDE else loading() or PROCESS.program_of


def inherit(scope: Scope, *, is_program: bool, after_load: bool) -> None:
    """Make ``scope`` the one of this whole process; of a worker's, code of repositories that have one here is not."""
    PROCESS.after_load = after_load
    if is_program:
        PROCESS.program_of = scope
    else:
        current_scope.set(Inherited(scope))


def is_adopted(repository: Repository) -> bool:
    """Say whether the frames of ``repository`` belong to a scope."""
    return namespace(repository) in namespaces


def _go_on_alone() -> None:
    """In a forked child no load goes on but the one that forks: the threads of others are not there."""
    own = loading()
    under_way[:] = [scope for scope in under_way if scope is own]
    if current() is None:
        # by the user's own code: no load has made this process
        for scopes in namespaces.values():
            for scope in scopes.values():
                scope.listens = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_go_on_alone)
