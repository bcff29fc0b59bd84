"""One command at a time changes a project."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hublock.actions.context import Context
from hublock.actions.project import Project


@contextmanager
def changing(project: Project, context: Context, *, lock_only: bool = False) -> Iterator[Project]:
    """Hold the project for a command that reads its files, works for minutes and writes them, or the lock, again.

    Another such command waits until then: else the last to write would drop what the others wrote. What others do to
    the lock meanwhile, as `git merge` does, the project that is given notices when it shall write.

    Raises:
        StoreError: the project is read-only.
    """
    project.check_writable(lock_only=lock_only)
    waiting = context.progress.saying_once(f"waiting for another hublock that changes {project.folder}")
    with context.store.alone(f"project {project.folder.resolve()}", on_wait=waiting):
        yield replace(project, seen=project.lock_text())
