"""Keep house in the store: what it holds, whether that is intact, and what may go."""

import os
import shlex
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from hublock.actions.context import Context
from hublock.core.inventory import locked_content, locked_digests
from hublock.core.lockfile import Lock
from hublock.errors import HublockError, IntegrityError, OfflineError, StoreError
from hublock.store.pruning import Held, contents, leftovers, prune


def everything(context: Context) -> list[Held]:
    """Return what the store holds, unfinished downloads included."""
    return [*contents(context.store), *leftovers(context.store)]


def listed(context: Context, locks: Iterable[Lock]) -> list[tuple[Held, tuple[str, ...]]]:
    """Return the finished content of the store, each with the names that ``locks`` have for it."""
    names: dict[object, dict[str, None]] = {}
    for lock in locks:
        for repo in lock.repos:
            names.setdefault(repo.digest, {})[repo.id] = None
        for file in locked_content(lock):
            names.setdefault(file.digest, {})[file.url] = None
    return [(held, tuple(names.get(held.digest, ()))) for held in contents(context.store)]


def check(context: Context) -> list[HublockError]:
    """Hash everything in the store again, several things at once, and return what is not as its name says."""
    held = list(contents(context.store))
    with (
        context.progress.task("verifying", sum(item.size for item in held)) as task,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):

        def one(item: Held) -> HublockError | None:
            try:
                _check(item, context)
            except (IntegrityError, OfflineError) as error:
                if not item.path.exists():
                    # somebody has pruned it meanwhile
                    return None
                # a sync mends only what its lock names, and this may be another project's or nobody's
                place = shlex.quote(str(item.path))
                error.hint = f"hublock sync where a lock names it, else chmod -R u+w {place} && rm -r {place}"
                return error
            except StoreError as error:
                return error
            finally:
                task.advance(item.size)
            return None

        return [error for error in pool.map(one, held) if error]


def tidy(context: Context, keep: Iterable[Lock], *, before: float, pretend: bool) -> list[Held]:
    """Remove what none of ``keep`` names and nobody used since ``before`` (seconds since the epoch); return it.

    Raises:
        StoreError: something cannot be removed.
    """
    kept = frozenset().union(*(locked_digests(lock) for lock in keep))
    return prune(context.store, keep=kept, before=before, pretend=pretend)


def _check(item: Held, context: Context) -> None:
    assert item.digest is not None
    if item.kind == "tree":
        context.store.check_tree(item.digest)
    else:
        context.store.check_blob(item.digest)
