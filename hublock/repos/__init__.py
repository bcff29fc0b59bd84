"""The package below which hub repositories are imported.

Importing it registers the finder, so a spawned worker or an unpickling in a fresh process needs nothing else: a
repository that this process has not loaded yet is looked up in its lock.
"""

import os

from hublock.errors import NotLocked
from hublock.runtime import isolation
from hublock.runtime.repository import Repository


def _look_up(name: str) -> Repository:
    from hublock.actions import load, locate
    from hublock.actions.project import read_named_lock

    file = locate.lock_file(os.environ)
    found = load.repository_of(name, read_named_lock(file), locate.store(os.environ))
    if found is None:
        raise NotLocked(
            f"{file} does not lock the repository that {name} was imported from",
            hint="hublock add it at the commit it had, or hublock.use(PATH) for the lock it was loaded from",
        )
    return found


isolation.install(_look_up)
