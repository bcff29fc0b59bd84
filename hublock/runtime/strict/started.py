"""Threads, jobs of pools and processes that a load starts: what they are refused, the load is refused."""

import threading
from typing import Any

from hublock.runtime.strict.refusals import ANCESTORS
from hublock.runtime.strict.scope import Scope, outside
from hublock.runtime.strict.swap import Function


def start_thread(scope: Scope, original: Function, thread: threading.Thread) -> None:
    """Start a thread from inside a scope: it runs inside too."""
    run = thread.run

    def inside() -> None:
        del thread.run  # the instance's attribute, so that nothing of us stays on it
        with scope.entered(following=True):
            run()

    thread.run = inside  # type: ignore[method-assign]
    original(thread)


def submit(scope: Scope, original: Function, pool: object, function: Function, /, *args: Any, **kwargs: Any) -> Any:
    """Hand a job to a thread pool from inside a scope: the job runs inside, a thread the pool adds for it does not."""
    with outside():
        return original(pool, scope.bound(function), *args, **kwargs)


def start_process(scope: Scope, original: Function, process: Any) -> None:
    """Start a process of ``multiprocessing`` from inside a scope: a forked one is inside, any other is told of it."""
    process._config[ANCESTORS] = (*process._config.get(ANCESTORS, ()), scope.as_ancestor)
    original(process)
