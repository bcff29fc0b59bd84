"""Fetch what the lock names into the store; never resolve, trace or write a lock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hublock.actions.context import Context
from hublock.actions.fetching import hugging_face_folder
from hublock.actions.pin import fetch_pinned
from hublock.core.lockfile import Lock
from hublock.errors import OfflineError
from hublock.net.download import Wanted


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
        IntegrityError: something fetched is not what the lock says.
        StoreError: the store cannot be written.
    """
    _take_inputs(lock, context, base)
    files = list(files_of(lock))
    trees = {repo.digest: repo for repo in lock.repos}
    absent = [repo for repo in trees.values() if context.store.tree(repo.digest) is None]
    if offline:
        missing = [item.url for item in files if item.digest and context.store.blob(item.digest) is None]
        if absent or missing:
            raise _offline([*(f"the tree of {repo.id}" for repo in absent), *missing])
        return Synced(trees=len(trees), files=len(files))
    for repo in trees.values():
        fetch_pinned(repo, context, base=base)
    got = context.downloader().fetch_all(files)
    return Synced(
        trees=len(trees),
        files=len(files),
        fetched_trees=len(absent),
        fetched_files=sum(item.came_from == "network" for item in got),
        fetched_bytes=sum(item.size for item in got if item.came_from == "network"),
        adopted_bytes=sum(item.size for item in got if item.came_from == "cache"),
    )


def _take_inputs(lock: Lock, context: Context, base: Path) -> None:
    """Copy the files that users hand in from the project into the store."""
    for model in (model for repo in lock.repos for model in repo.models):
        for given in model.inputs:
            if context.store.blob(given.digest) is None:
                path = base / given.name
                if not path.is_file():
                    raise OfflineError(
                        f"model {model.name} wants the file {given.name}, which nobody serves",
                        hint=f"put it at {path} (sha256 {given.digest.hex}), then hublock sync",
                    )
                context.store.add_blob(path, given.digest)


def files_of(lock: Lock) -> Iterator[Wanted]:
    """Yield every file a lock names that can be fetched by URL, each digest once."""
    seen = set()
    for wanted in _all_files(lock):
        if wanted.digest not in seen:
            seen.add(wanted.digest)
            yield wanted


def _all_files(lock: Lock) -> Iterator[Wanted]:
    for model in (model for repo in lock.repos for model in repo.models):
        for weights in model.weights:
            yield Wanted(url=weights.url, digest=weights.digest, size=weights.size)
        for file in model.hf:
            url = f"{hugging_face_folder(file.repo, file.type)}/resolve/{file.commit}/{file.file}"
            yield Wanted(url=url, digest=file.digest, size=file.size)
        for reply in model.replies:
            yield Wanted(url=reply.url, digest=reply.digest, size=reply.size)
    for named in lock.weights:
        yield Wanted(url=named.url, digest=named.digest, size=named.size)


def _offline(missing: Sequence[str]) -> OfflineError:
    return OfflineError(f"not in the store: {', '.join(missing)}", hint="hublock sync, with network")
