"""From a reference to a pinned repository: resolved, fetched, proven, stored, read."""

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from hublock.actions.context import Context
from hublock.actions.offers import read_tree_hubconf
from hublock.actions.verdicts import scan_tree
from hublock.core.hubconf import Hubconf
from hublock.core.lockfile import Lock, Repo
from hublock.core.pretender import pretender
from hublock.core.reference import Reference
from hublock.errors import HublockError, OfflineError, TreeMismatch
from hublock.net.download import Fetched
from hublock.net.git.locked import fetch_locked
from hublock.net.git.remote import Remote, Resolved, Snapshot, open_remote
from hublock.runtime.repository import Repository
from hublock.store.store import StoredTree

_DATE = r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_CLAIMED = re.compile(rf"-(?!{_DATE}[0-9]*\.)([0-9a-f]{{8,64}})\.[^/]*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pinned:
    """A repository at a commit, and what a user is told about it."""

    repo: Repo
    tree: StoredTree
    hubconf: Hubconf
    committed: datetime | None = None
    """None when the pin was in the lock already."""


def remote_of(reference: Reference, context: Context, base: Path) -> Remote:
    """Open the repository of ``reference``; a local path is relative to ``base``."""
    return open_remote(reference, context.transport, base=base, progress=context.progress)


def pin(
    reference: Reference, context: Context, *, base: Path, allow_unreachable: bool = False, nested: bool = False
) -> Pinned:
    """Find the commit of ``reference``, bring its tree into the store and read its hubconf.

    Raises:
        RepositoryNotFound: there is no such repository.
        RefNotFound: it has no such ref.
        TransferError: the host could not be reached.
        IntegrityError: the objects do not hash to the commit, or must not be unpacked.
        InputError: the tree has no hubconf.py, or it cannot be parsed.
        StoreError: the store cannot be written.
    """
    remote = remote_of(reference, context, base)
    resolved = remote.resolve(reference.ref, allow_unreachable=allow_unreachable, nested=nested)
    if resolved.warning:
        context.progress.warn(resolved.warning)
    snapshot = remote.fetch(resolved.commit, progress=context.progress)
    return pin_at(reference, resolved, snapshot, context, allow_unreachable=allow_unreachable)


def pin_at(
    reference: Reference, resolved: Resolved, snapshot: Snapshot, context: Context, *, allow_unreachable: bool
) -> Pinned:
    """Bring the fetched tree of a commit into the store and read its hubconf.

    Raises:
        InputError: the tree has no hubconf.py, or it cannot be parsed.
        StoreError: the store cannot be written.
    """
    tree = context.store.add_tree(snapshot.files)
    hubconf = read_tree_hubconf(tree, str(reference))
    repo = Repo(
        id=str(reference),
        ref=resolved.ref,
        commit=resolved.commit,
        tree=snapshot.tree,
        digest=tree.digest,
        allow_unreachable=allow_unreachable,
        dependencies=hubconf.dependencies,
        submodules=snapshot.submodules,
        tree_weights=scan_tree(tree),
    )
    return Pinned(repo=repo, tree=tree, hubconf=hubconf, committed=snapshot.committed)


def fetch_pinned(repo: Repo, context: Context, *, base: Path) -> StoredTree:
    """Bring the locked tree of ``repo`` into the store, unless it is there and looks as it did when it was checked.

    Raises:
        TreeMismatch: the host serves other content under the locked commit.
        TransferError: the host could not be reached.
    """
    found = _stored(repo, context, say=False)
    if found is not None:
        return found
    waiting = context.progress.saying_once(f"waiting for another process that fetches {repo.id}")
    with context.store.alone(str(repo.digest), on_wait=waiting):
        found = _stored(repo, context, say=True)
        if found is not None:
            return found
        reference, transport = Reference.parse(repo.id), context.transport
        files = fetch_locked(reference, repo.commit, repo.digest, transport, base=base, progress=context.progress)
        return context.store.add_tree(files, expected=repo.digest)


def _stored(repo: Repo, context: Context, *, say: bool) -> StoredTree | None:
    """Return the tree of ``repo`` from the store; None where it is not there or damaged, and then ``say`` so."""
    try:
        return context.store.check_tree(repo.digest, deep=False)
    except OfflineError:
        return None
    except TreeMismatch as error:
        if say:
            context.progress.warn(f"{error.message}; fetching {repo.id} again")
        return None


def pin_once(
    reference: Reference, lock: Lock, context: Context, *, base: Path, allow_unreachable: bool = False
) -> Pinned:
    """Take the pin that ``lock`` has of ``reference``, or make one; raises as :func:`pin` does.

    A pin that was accepted unproven is proven now, unless that is still allowed.
    """
    known = lock.repo(str(reference))
    if known is None:
        return pin(reference, context, base=base, allow_unreachable=allow_unreachable)
    if known.allow_unreachable and not allow_unreachable:
        proven = remote_of(reference, context, base).resolve(known.commit)
        known = replace(known, ref=proven.ref, allow_unreachable=False)
    return take_pin(known, context, base=base)


def take_pin(known: Repo, context: Context, *, base: Path) -> Pinned:
    """Take the pin that a lock has of a repository; raises as :func:`fetch_pinned` and :func:`read_tree_hubconf` do."""
    tree = fetch_pinned(known, context, base=base)
    return Pinned(repo=known, tree=tree, hubconf=read_tree_hubconf(tree, known.id))


def renamed(known: Repo, reference: Reference, context: Context, *, base: Path) -> Repo | None:
    """Return the pin ``known`` under the name ``reference``, if its host says that this is what it is called by now."""
    old = Reference.parse(known.id)
    if old.ref != reference.ref or old.location == reference.location:
        return None
    with suppress(HublockError):
        # proven there, and not believed for its old name
        found = remote_of(old, context, base).resolve(known.commit, allow_unreachable=known.allow_unreachable)
        if found.moved is not None and found.moved.at(old.ref).key == reference.key:
            return replace(known, id=str(reference), via=(), models=())
    return None


def warn_if_odd(fetched: Fetched, context: Context) -> None:
    """Warn of a new file that is empty, a web page or an LFS pointer, or named for another digest than its own.

    Names such as ``…-1a2b3c4d.pth`` claim a digest by PyTorch Hub's convention; ``…-20240131.pth`` has a date instead.
    """
    url = fetched.url
    claim = _CLAIMED.search(urlsplit(url).path)
    if claim and not fetched.digest.hex.startswith(claim[1]):
        context.progress.warn(f"{url} is named for {claim[1]} but hashes to {fetched.digest.hex[:16]}…")
    with fetched.path.open("rb") as file:
        what = pretender(file)
    if not fetched.size:
        context.progress.warn(f"{url} is empty, and locked as it is")
    elif what:
        context.progress.warn(f"{url} answers with {what}, which is locked as it is")


def repository(repo: Repo, tree: StoredTree) -> Repository:
    """Return the stored tree of ``repo`` as something to import."""
    return Repository(id=repo.id, digest=repo.digest, root=tree.root, listing=tree.listing)
