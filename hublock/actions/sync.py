"""Fetch what the lock names into the store; never resolve, trace or write a lock."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from hublock.actions.context import Context
from hublock.actions.pin import fetch_pinned
from hublock.core.inventory import addresses_of, locked_files
from hublock.core.lockfile import Lock, Repo
from hublock.errors import DigestMismatch, OfflineError, RemoteError
from hublock.net.download import Wanted

if TYPE_CHECKING:
    from hublock.core.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What syncing did."""

    trees: int
    files: int
    fetched_trees: int = 0
    fetched_files: int = 0
    fetched_bytes: int = 0
    adopted_bytes: int = 0
    """Taken over from torch.hub's own cache instead of fetched."""


def sync(lock: Lock, context: Context, *, base: Path, offline: bool = False) -> Synced:
    """Bring every tree and file that ``lock`` names into the store, verified.

    Args:
        lock: what to fetch.
        context: where to fetch it to.
        base: the folder that local paths are relative to.
        offline: refuse instead of fetching.

    Raises:
        OfflineError: something is missing and ``offline`` is set; all of it is named.
        RemoteError: something could not be fetched.
        IntegrityError: something fetched, or there under ``offline``, is not what the lock says.
        StoreError: the store cannot be written.
    """
    _take_inputs(lock, context, base)
    trees: dict[Digest, list[Repo]] = {}
    for repo in lock.repos:
        trees.setdefault(repo.digest, []).append(repo)
    absent = [repos[0] for digest, repos in trees.items() if not context.store.has_tree(digest)]
    if offline:
        once = locked_files(lock)
        missing = [file.url for file in once if context.store.blob(file.digest) is None]
        if absent or missing:
            raise _offline([*(f"the tree of {repo.id}" for repo in absent), *missing])
        for digest in trees:
            context.store.check_tree(digest, deep=False)
        for file in once:
            context.store.check_blob(file.digest, size=file.size, deep=False)
        return Synced(trees=len(trees), files=len(once))
    for repos in trees.values():
        _fetch_tree(repos, context, base)
    files = addresses_of(lock.models, lock.weights)
    wanted = [Wanted(url=file.url, digest=file.digest, size=file.size) for file in files]
    got = {item.digest: item for item in context.downloader().fetch_all(wanted)}.values()
    return Synced(
        trees=len(trees),
        files=len(got),
        fetched_trees=len(absent),
        fetched_files=sum(item.came_from == "network" for item in got),
        fetched_bytes=sum(item.size for item in got if item.came_from == "network"),
        adopted_bytes=sum(item.size for item in got if item.came_from == "cache"),
    )


def _fetch_tree(repos: Sequence[Repo], context: Context, base: Path) -> None:
    """Fetch the one tree that all of ``repos`` pin from the first that has it."""
    for repo, other in itertools.pairwise(repos):
        try:
            fetch_pinned(repo, context, base=base)
        except RemoteError as error:
            context.progress.warn(f"{repo.id} failed, asking {other.id}: {error.message}")
        else:
            return
    fetch_pinned(repos[-1], context, base=base)


def _take_inputs(lock: Lock, context: Context, base: Path) -> None:
    """Copy the files that users hand in from the project into the store."""
    for model in lock.models:
        for given in model.inputs:
            if not context.store.has_blob(given.digest):
                path = base / given.name
                if not path.is_file():
                    raise OfflineError(
                        f"model {model.name} wants the file {given.name}, which nobody serves",
                        hint=f"put it at {path} (sha256 {given.digest.hex}), then hublock sync",
                    )
                try:
                    context.store.add_blob(path, given.digest)
                except DigestMismatch as error:
                    error.hint = (
                        f"put the locked file there, or lock this one: hublock lock --retrace {quote(model.name)}"
                    )
                    raise


def _offline(missing: Sequence[str]) -> OfflineError:
    return OfflineError(f"not in the store: {', '.join(missing)}", hint="hublock sync, with network")
