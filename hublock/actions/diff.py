"""What a reviewer of a lock wants to see: how it differs from the one of a commit or of another file."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hublock.actions.context import Context
from hublock.actions.project import LOCK, Project, read_named_lock
from hublock.actions.sources import stored_sources
from hublock.core import changes, contract
from hublock.core.changes import Change
from hublock.core.contract import ContractChange
from hublock.core.lockfile import Lock, Repo
from hublock.core.lockreader import parse_lock
from hublock.core.reference import key_of
from hublock.errors import EnvironmentMismatch, InputError
from hublock.net.git.child import child_environment


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How two locks differ."""

    changes: tuple[Change, ...]
    contracts: tuple[tuple[str, ContractChange], ...]
    """By id of the repository, where both versions of its source are in the store."""


def diff(project: Project, context: Context, *, against: str | None = None) -> Difference:
    """Compare the lock with another one; no network, and nothing runs.

    Args:
        project: whose lock is compared.
        context: in whose store sources are looked for.
        against: a file, or a commit of the git repository that the project lies in; None is ``HEAD``.

    Raises:
        NotLocked: there is no lock.
        InvalidLock: one of the two cannot be read.
        InputError: ``against`` is neither a file nor a commit, or there is no commit.
        EnvironmentMismatch: git is not installed.
    """
    new = read_named_lock(project.lock)
    old = _other(project, against)
    return Difference(changes=changes.compare(old, new), contracts=tuple(_contracts(old, new, context)))


def _other(project: Project, against: str | None) -> Lock:
    if against is not None and Path(against).is_file():
        return read_named_lock(Path(against))
    rev = against or "HEAD"
    commit = _git(project, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    if commit is None and _git(project, "rev-parse", "--git-dir") is None:
        raise InputError(f"{project.folder} is in no git repository", hint="hublock diff OTHER.lock")
    if commit is None and against is None:
        raise InputError(f"the git repository of {project.folder} has no commit yet", hint="hublock diff OTHER.lock")
    if commit is None:
        raise InputError(
            f"{rev} is neither a lock file nor a commit", hint="hublock diff OTHER.lock, or a commit's name"
        )
    text = _git(project, "cat-file", "blob", f"{commit.strip()}:./{LOCK}")
    # before the lock was first committed, everything is new
    return Lock() if text is None else parse_lock(text, file=f"{rev}:{LOCK}")


def _git(project: Project, *words: str) -> str | None:
    """Return what git says in the project's folder; None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(project.folder), *words], env=child_environment(), capture_output=True, check=False
        )
        return done.stdout.decode("utf-8") if done.returncode == 0 else None
    except FileNotFoundError:
        raise EnvironmentMismatch(
            f"{LOCK} of a commit cannot be read without git, which is not installed", hint="hublock diff OTHER.lock"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{LOCK} of that commit is not UTF-8 text", hint="hublock diff OTHER.lock") from None


def _contracts(old: Lock, new: Lock, context: Context) -> list[tuple[str, ContractChange]]:
    found = []
    before = {key_of(repo.id): repo for repo in old.repos}
    for repo in new.repos:
        known = before.get(key_of(repo.id))
        change = _contract(known, repo, context) if known and known.digest != repo.digest else None
        if change is not None and not change.empty:
            found.append((repo.id, change))
    return found


def _contract(old: Repo, new: Repo, context: Context) -> ContractChange | None:
    sources = [stored_sources(repo, context) for repo in (old, new)]
    if sources[0] is None or sources[1] is None:
        return None
    try:
        before, after = (contract.read_contract(source or {}, name=new.id) for source in sources)
    except InputError:
        return None
    return contract.compare(before, after)
