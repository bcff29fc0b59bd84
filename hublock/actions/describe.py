"""What a repository offers, fetched if need be; a hubconf.py that must run to tell runs in a child."""

from pathlib import Path

from hublock.actions.context import Context
from hublock.actions.offers import Offer, recall, remember
from hublock.actions.pin import Pinned, pin_once, repository
from hublock.core.hubconf import HUBCONF
from hublock.core.lockfile import Lock
from hublock.core.reference import Reference
from hublock.errors import HublockError
from hublock.runtime.answers import LockedAnswers
from hublock.runtime.tracing.parent import Job, trace


def offer_of_reference(reference: Reference, lock: Lock, context: Context, *, base: Path) -> Offer:
    """Return what a repository offers, fetching it if need be; the lock's pin decides the commit.

    Raises:
        RemoteError: it could not be fetched.
        InputError: it is not a hub repository.
    """
    pinned, known = pin_once(reference, lock, context, base=base), lock.repo(str(reference))
    return recall(pinned.tree, str(reference), context.store, pinned.hubconf, locked=known.models if known else ())


def offer_of_pinned(pinned: Pinned, context: Context) -> Offer:
    """Return what a repository offers; a hubconf.py that builds names at run time is run once, in a child.

    A hubconf.py that cannot be run here is read instead.
    """
    offer = recall(pinned.tree, pinned.repo.id, context.store, pinned.hubconf)
    if not offer.estimated:
        return offer
    job = Job(repository=repository(pinned.repo, pinned.tree), entrypoint=None, args=(), kwargs={}, seed=0)
    answers = LockedAnswers(Lock(repos=(pinned.repo,)), pinned.repo, (), context.store)
    try:
        outcome = trace(job, answers, on_output=context.progress.note)
    except HublockError as error:
        context.progress.note(f"{pinned.repo.id}: {HUBCONF} could not be run to list its entry points: {error.message}")
        return offer
    remember(pinned.tree, outcome.entrypoints, context.store)
    return recall(pinned.tree, pinned.repo.id, context.store, pinned.hubconf)
