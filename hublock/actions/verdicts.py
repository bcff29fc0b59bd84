"""Whether what the lock says of pickles is what the stored bytes say: consent and loading depend on it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hublock.actions.context import Context
from hublock.actions.pin import scan_file, scan_tree
from hublock.core.digest import Digest
from hublock.core.findings import Finding
from hublock.core.inventory import address
from hublock.core.lockfile import Lock, Pickle, Repo
from hublock.errors import IntegrityError


def check_verdicts(lock: Lock, context: Context) -> Iterator[Finding]:
    """Yield a finding for each verdict in ``lock`` that its file does not bear out.

    What is not stored, or cannot be read, is left out.
    """
    for name, pickle, digest in _files(lock):
        with suppress(OSError):
            yield from _check(name, name, pickle, context.store.blob(digest))
    for repo in lock.repos:
        with suppress(OSError):
            yield from _check_tree(repo, context)


def _files(lock: Lock) -> Iterator[tuple[str, Pickle, Digest]]:
    for model in lock.models:
        yield from ((row.url, row.pickle, row.digest) for row in model.weights)
        yield from ((address(row), row.pickle, row.digest) for row in model.hf)
        yield from ((row.name, row.pickle, row.digest) for row in model.inputs)
    yield from ((row.url, row.pickle, row.digest) for row in lock.weights)


def _check_tree(repo: Repo, context: Context) -> Iterator[Finding]:
    try:
        tree = context.store.tree(repo.digest)
    except IntegrityError:
        return
    if tree is None:
        return
    locked = {row.path: row.pickle for row in repo.tree_weights}
    for path, pickle in locked.items():
        file = tree.root / path
        yield from _check(repo.id, f"{path} of {repo.id}", pickle, file if file.is_file() else None)
    for row in scan_tree(tree):
        if row.path not in locked:
            yield _finding(repo.id, f"{row.path} of {repo.id}", "nothing", row.pickle)


def _check(subject: str, name: str, locked: Pickle, path: Path | None) -> Iterator[Finding]:
    found = scan_file(path) if path is not None else locked
    if found != locked:
        yield _finding(subject, name, locked, found)


def _finding(subject: str, name: str, locked: Pickle | str, found: Pickle) -> Finding:
    said, is_ = (", ".join(verdict) if isinstance(verdict, tuple) else verdict for verdict in (locked, found))
    return Finding(
        rule="lock-untrue",
        subject=subject,
        message=f"the lock says that the pickle of {name} holds {said}, but it holds {is_}",
        hint="git restore hub.lock, then hublock lock",
    )
