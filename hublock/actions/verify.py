"""Check, offline, that the lock answers the manifest and that the store holds what the lock names."""

from collections.abc import Iterator
from dataclasses import dataclass

from hublock.actions.context import Context
from hublock.actions.project import Project
from hublock.core.canonical import is_canonical
from hublock.core.digest import Digest
from hublock.core.findings import Finding
from hublock.core.inventory import locked_files
from hublock.core.lockfile import Lock
from hublock.core.plan import plan
from hublock.errors import IntegrityError, NotLocked


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What was checked and what was found."""

    findings: tuple[Finding, ...]
    models: int
    trees: int
    files: int
    size: int
    """Bytes of the files and trees that were checked."""


def verify(project: Project, context: Context, *, deep: bool = False) -> Verified:
    """Check lock, manifest and store against each other; no network, and nothing is imported or written.

    Args:
        project: what to check; without a manifest the lock is checked alone.
        context: whose store.
        deep: hash every byte again, also where size and times are as they were when it was last hashed.

    Raises:
        NotLocked: there is no lock.
        InvalidLock: the lock cannot be read.
        InvalidManifest: the manifest cannot be read.
    """
    if not project.lock.exists():
        raise NotLocked(f"{project.lock} does not exist", hint="hublock lock")
    lock = project.read_lock()
    findings = [*_lock_findings(project, lock)]
    size = 0
    with context.progress.task("verifying", _total(lock, context)) as task:
        for repo in {repo.digest: repo for repo in lock.repos}.values():
            tree = context.store.tree(repo.digest)
            found = _check_tree(repo.id, repo.digest, context, deep=deep)
            findings += [found] if found else []
            size += tree.listing.size if tree and not found else 0
            task.advance(tree.listing.size if tree else 0)
        files = list(_files(lock))
        for name, digest, length in files:
            found = _check_file(name, digest, length, context, deep=deep)
            findings += [found] if found else []
            size += 0 if found else length
            task.advance(length)
    models = sum(len(repo.models) for repo in lock.repos)
    trees = len({repo.digest for repo in lock.repos})
    return Verified(findings=tuple(findings), models=models, trees=trees, files=len(files), size=size)


def _lock_findings(project: Project, lock: Lock) -> Iterator[Finding]:
    if not is_canonical(project.lock.read_text(encoding="utf-8")):
        yield Finding(
            rule="lock-not-canonical",
            subject=str(project.lock),
            message=f"{project.lock} was edited by hand: it is not as hublock writes it",
            hint="git diff hub.lock, then hublock lock",
        )
    if project.manifest.exists():
        for reason in plan(project.read_manifest(), lock).reasons:
            yield Finding(
                rule="lock-stale",
                subject=str(project.lock),
                message=f"{project.lock} does not answer the manifest: {reason}",
                hint="hublock lock",
            )


def _files(lock: Lock) -> Iterator[tuple[str, Digest, int]]:
    for file in locked_files(lock):
        yield file.url, file.digest, file.size
    for model in (model for repo in lock.repos for model in repo.models):
        for given in model.inputs:
            yield given.name, given.digest, given.size


def _total(lock: Lock, context: Context) -> int:
    trees = [context.store.tree(digest) for digest in {repo.digest for repo in lock.repos}]
    return sum(size for _, _, size in _files(lock)) + sum(tree.listing.size for tree in trees if tree)


def _check_tree(name: str, digest: Digest, context: Context, *, deep: bool) -> Finding | None:
    if context.store.tree(digest) is None:
        return Finding(
            rule="tree-missing", subject=name, message=f"the tree of {name} is not in the store", hint="hublock sync"
        )
    try:
        context.store.check_tree(digest, deep=deep)
    except IntegrityError as error:
        return Finding(
            rule="tree-damaged",
            subject=name,
            message=f"the stored tree of {name} is not the locked one: {error.message}",
            hint=error.hint or "hublock sync",
        )
    return None


def _check_file(name: str, digest: Digest, size: int, context: Context, *, deep: bool) -> Finding | None:
    if context.store.blob(digest) is None:
        return Finding(rule="file-missing", subject=name, message=f"{name} is not in the store", hint="hublock sync")
    try:
        context.store.check_blob(digest, size=size, deep=deep)
    except IntegrityError as error:
        return Finding(
            rule="file-damaged",
            subject=name,
            message=f"the stored bytes of {name} are not the locked ones: {error.message}",
            hint=error.hint or "hublock sync",
        )
    return None
