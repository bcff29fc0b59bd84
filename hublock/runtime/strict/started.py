"""Threads, jobs of pools and processes that a load starts: what they are refused, the load is refused."""

import os
import threading
from typing import Any

from hublock.runtime.strict.refusals import PARENTS_FILE
from hublock.runtime.strict.scope import Scope, outside
from hublock.runtime.strict.swap import Function


def start_thread(scope: Scope, original: Function, thread: threading.Thread) -> None:
    """Start a thread from inside a scope: it runs inside too."""
    run = thread.run

    def inside() -> None:
        del thread.run  # the instance's attribute, so that nothing of us stays on it
        with scope.entered():
            run()

    thread.run = inside  # type: ignore[method-assign]
    original(thread)


def submit(scope: Scope, original: Function, pool: object, function: Function, /, *args: Any, **kwargs: Any) -> Any:
    """Hand a job to a thread pool from inside a scope: the job runs inside, a thread the pool adds for it does not."""
    with outside():
        return original(pool, scope.bound(function), *args, **kwargs)


def start_process(scope: Scope, original: Function, process: Any) -> None:
    """Start a process of ``multiprocessing`` from inside a scope: a forked one is inside, a spawned one is told of it.

    The variable is there only meanwhile, for it is the whole process's.
    """
    environ = os.environ  # noqa: TID251 - no setting: a word from us to the child
    with _starting:
        before = environ.get(PARENTS_FILE, "")
        environ[PARENTS_FILE] = str(scope.notes)
        try:
            original(process)
        finally:
            environ[PARENTS_FILE] = before
            if not before:
                del environ[PARENTS_FILE]


_starting = threading.Lock()


def _free_in_child() -> None:
    global _starting  # noqa: PLW0603 - its holder is not in the child
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_in_child)
