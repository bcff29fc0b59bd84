"""List what the hosts hold otherwise than the lock; nothing is changed, and nothing is fetched whole."""

from dataclasses import dataclass

from hublock.actions import moves
from hublock.actions.context import Context
from hublock.actions.moves import Move
from hublock.actions.project import Project, read_named_lock
from hublock.actions.upstream import check_files, of_failure, of_name
from hublock.core.findings import Finding
from hublock.errors import HublockError


@dataclass(frozen=True, kw_only=True, slots=True)
class Outdated:
    """What is elsewhere by now."""

    moved: tuple[Move, ...]
    repositories: tuple[Finding, ...]
    """Those that are called otherwise, gone, or could not be asked for."""
    files: tuple[Finding, ...]
    """Those with other bytes, gone, or that could not be asked for."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be told besides what has moved."""
        return (*self.repositories, *self.files)


def outdated(project: Project, context: Context) -> Outdated:
    """Ask every host that the lock names.

    Raises:
        NotLocked: there is no lock.
        InvalidLock: it cannot be read.
    """
    lock = read_named_lock(project.lock)
    looks = moves.at_once(lambda repo: moves.look(repo, context, base=project.folder), lock.repos, context)
    away = tuple(seen for seen in looks if isinstance(seen, Move) and seen.trend != "same")
    told: list[Finding] = []
    for repo, seen in zip(lock.repos, looks, strict=True):
        told += [of_failure(repo, seen)] if isinstance(seen, HublockError) else of_name(repo, seen)
    return Outdated(moved=away, repositories=tuple(told), files=tuple(check_files(lock, context)))
