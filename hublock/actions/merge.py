"""Merge two locks for git, and read again what git has left in conflict."""

from pathlib import Path

from hublock.actions.project import Project
from hublock.actions.textfiles import read_text, replace_file
from hublock.core.canonical import dump_lock
from hublock.core.conflicts import sides, with_markers
from hublock.core.lockfile import Lock
from hublock.core.lockreader import parse_lock
from hublock.core.merging import agreed, merge_locks
from hublock.core.progress import Progress
from hublock.errors import HublockError, InputError, InvalidLock
from hublock.net.git.worktree import read_blob


def merge_files(base: Path, ours: Path, theirs: Path) -> tuple[str, ...]:
    """Merge ``theirs`` into ``ours``, as git asks of a merge driver (gitattributes(5)); return the conflicts.

    Where both sides changed one entry, ``ours`` is left with git's conflict markers around it, and where one of the
    files cannot be read as a lock, around everything that differs.

    Raises:
        InputError: a file cannot be read at all.
        StoreError: ``ours`` cannot be written.
    """
    try:
        texts = [read_text(path) for path in (base, ours, theirs)]
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename} does not exist", hint="hublock init --merge-driver has git call it"
        ) from None
    try:
        locks = [
            parse_lock(text, file=name) if text.strip() else Lock() for text, name in zip(texts, _NAMES, strict=True)
        ]
    except HublockError as error:
        replace_file(ours, with_markers(texts[1], texts[2]))
        return (error.message,)
    merge = merge_locks(*locks)
    replace_file(ours, with_markers(dump_lock(merge.ours), dump_lock(merge.theirs)))
    return merge.conflicts


_NAMES = ("the common ancestor", "our lock", "their lock")


def recover(project: Project, progress: Progress) -> Lock:
    """Return the lock of ``project``; of one with conflict markers, every pin on which both sides agree.

    The sides are those of git's index: what stands beside the markers git has merged line by line, and an entry of one
    side may stand under the commit of the other.

    Raises:
        InvalidLock: it is not valid, or one of its two sides is not.
    """
    found = sides(project.lock_text())
    if found is None:
        return project.read_lock()
    try:
        staged = _of_index(project)
        ours, theirs = staged or (
            parse_lock(side, file=f"{project.lock} ({name} side)")
            for side, name in zip(found, ("our", "their"), strict=True)
        )
    except InvalidLock as error:
        raise InvalidLock(
            f"{error.message}, so its conflict cannot be read by entry",
            hint="git checkout --ours hub.lock, then hublock lock",
        ) from None
    lock, contested = agreed(ours, theirs)
    what = f"; found out again: {', '.join(contested)}" if contested else ""
    progress.say(f"{project.lock.name} is in conflict: every pin that both sides agree on is kept{what}")
    if contested and staged:
        side = f"git checkout --ours {project.lock.name}, or --theirs, then hublock lock"
        progress.say(f"to have the pins of one side instead: {side}")
    return lock


def _of_index(project: Project) -> tuple[Lock, Lock] | None:
    """Return the two locks of a merge under way; None where git knows of none, or has other files of that name."""
    ours, theirs = (read_blob(project.folder, f":{stage}:./{project.lock.name}") for stage in (2, 3))
    if ours is None or theirs is None:
        return None
    try:
        return parse_lock(ours, file="our side"), parse_lock(theirs, file="their side")
    except InputError:
        return None
