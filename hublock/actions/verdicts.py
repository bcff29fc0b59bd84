"""What pickles hold, and whether the lock says the same of them: consent and loading depend on it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hublock.actions.context import Context
from hublock.core.findings import Finding, Rule
from hublock.core.inventory import locked_rows
from hublock.core.lockfile import Lock, Pickle, Repo, TreeWeights
from hublock.core.pickles.scanning import scan
from hublock.core.tree import LINK
from hublock.errors import HublockError
from hublock.store.store import StoredTree

CHECKPOINTS = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar", ".th", ".t7", ".model", ".weights")
"""Endings of files in a tree that are looked at as checkpoints; one with another name is judged when it is loaded."""


def scan_tree(tree: StoredTree) -> tuple[TreeWeights, ...]:
    """Judge every checkpoint that lies in the tree itself."""
    found = []
    for entry in tree.listing.entries:
        if entry.path.endswith(CHECKPOINTS) and entry.mode != LINK:
            verdict = scan_file(tree.root / entry.path)
            if verdict != "none":
                found.append(TreeWeights(path=entry.path, pickle=verdict))
    return tuple(found)


def scan_file(path: Path) -> Pickle:
    """Judge the checkpoint at ``path``, without unpickling anything."""
    with path.open("rb") as file:
        return scan(file)


def check_verdicts(lock: Lock, context: Context) -> Iterator[Finding]:
    """Yield a finding for each verdict in ``lock`` that its file does not bear out.

    What is not stored, is damaged or cannot be read, is left out: of other bytes the lock says nothing.
    """
    for row in locked_rows(lock):
        with suppress(OSError, HublockError):
            context.store.check_blob(row.digest, deep=False)
            yield from _check(row.url, row.url, row.pickle, context.store.layout.blob(row.digest))
    for repo in lock.repos:
        with suppress(OSError, HublockError):
            yield from _check_tree(repo, context)


def _check_tree(repo: Repo, context: Context) -> Iterator[Finding]:
    tree = context.store.check_tree(repo.digest, deep=False)
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
        rule=Rule.LOCK_UNTRUE,
        subject=subject,
        message=f"the lock says that the pickle of {name} holds {said}, but it holds {is_}",
        hint="git restore hub.lock, then hublock lock",
    )
