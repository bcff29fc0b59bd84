"""What a reviewer of a lock wants to see: how it differs from the one of a commit or of another file."""

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
from hublock.errors import InputError, TransferError
from hublock.net.git.worktree import run_git


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How two locks differ."""

    changes: tuple[Change, ...]
    contracts: tuple[tuple[str, ContractChange], ...]
    """By id of the repository, where both versions of its source are in the store."""


def diff(project: Project, context: Context, *, against: str | None) -> Difference:
    """Compare the lock with another one; nothing runs, and only what a partial clone lacks is fetched, by git.

    Args:
        project: whose lock is compared.
        context: in whose store sources are looked for.
        against: a file, or a commit of the git repository that the project lies in; None is ``HEAD``.

    Raises:
        NotLocked: there is no lock.
        InvalidLock: one of the two cannot be read.
        InputError: ``against`` is neither a file nor a commit, there is no commit, or its lock is no file.
        TransferError: the lock of the commit is not in this clone, and cannot be fetched.
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
        absent = f"{against} is no file, and " if against is not None else ""
        raise InputError(f"{absent}{project.folder} is in no git repository", hint="hublock diff OTHER.lock")
    if commit is None and against is None:
        raise InputError(f"the git repository of {project.folder} has no commit yet", hint="hublock diff OTHER.lock")
    if commit is None:
        raise InputError(
            f"{rev} is neither a lock file nor a commit", hint="hublock diff OTHER.lock, or a commit's name"
        )
    return _committed(project, commit.decode("ascii").strip(), rev)


def _committed(project: Project, commit: str, rev: str) -> Lock:
    """Read the lock of a commit, wherever in it a link leads; before it was first committed, everything is new."""
    found = _git(project, "ls-tree", commit, "--", f"./{LOCK}")
    if found == b"":
        return Lock()
    said = found and _git(project, "cat-file", "--batch", "--follow-symlinks", asked=f"{commit}:./{LOCK}")
    facts, _, data = (said or b"").partition(b"\n")
    if not said or facts.endswith(b" missing"):
        raise TransferError(
            f"git can neither read nor fetch {rev}:{LOCK}", hint=f"check that `git show {rev}:./{LOCK}` works"
        )
    if b" blob " not in facts:
        raise InputError(f"{rev}:{LOCK} is no file, and no link to one in that commit", hint="hublock diff OTHER.lock")
    try:
        return parse_lock(data.decode("utf-8").removesuffix("\n"), file=f"{rev}:{LOCK}")
    except UnicodeDecodeError:
        raise InputError(f"{rev}:{LOCK} is not UTF-8 text", hint="hublock diff OTHER.lock") from None


def _git(project: Project, *words: str, asked: str = "") -> bytes | None:
    """Return what git says in the project's folder when it is ``asked``; None where it fails."""
    # the user's own repository: what a partial clone left at its remote may be fetched
    done = run_git(project.folder, *words, asked=asked, may_fetch=True)
    return done.stdout if done.returncode == 0 else None


def _contracts(old: Lock, new: Lock, context: Context) -> list[tuple[str, ContractChange]]:
    found = []
    before = old.by_key
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
