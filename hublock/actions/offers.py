"""What a repository offers, read from a folder or the store: no network, and nothing runs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from shlex import quote

from hublock.core.hubconf import (
    HUBCONF,
    EntryPoint,
    Hubconf,
    find_definition,
    not_a_repository,
    read_hubconf,
    without_modules,
)
from hublock.core.lockfile import Model, Repo
from hublock.core.nearest import nearest
from hublock.core.tree import EXECUTABLE, FILE, LINK
from hublock.errors import EntrypointNotFound, InputError, OfflineError
from hublock.runtime.environment import importable
from hublock.store.store import Store, StoredTree

NOTE = "entrypoints.json"
"""What a stored tree's entry points are noted as, once a trace has seen them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """The entry points of one repository."""

    name: str
    entrypoints: tuple[EntryPoint, ...]
    estimated: bool
    """Whether hubconf.py builds names at run time and was only read, so that some may be missing."""
    read: Callable[[str], bytes | None] | None = field(default=None, compare=False, repr=False)
    """Gives the text of a file, where the entry points were only read: what they import may be looked up."""


def remember(tree: StoredTree, entrypoints: Sequence[EntryPoint], store: Store) -> None:
    """Record beside a stored tree what a trace found hubconf.py to offer."""
    if entrypoints:
        store.note(tree.digest, NOTE, json.dumps([asdict(entry) for entry in entrypoints]).encode())


def recall(
    tree: StoredTree, name: str, store: Store, hubconf: Hubconf | None = None, *, locked: Iterable[Model] = ()
) -> Offer:
    """Return what a stored tree offers, the entry points of ``locked`` among it; nothing runs."""
    hubconf = hubconf or read_tree_hubconf(tree, name)
    noted = _noted(store.read_note(tree.digest, NOTE))
    if noted is None:
        read = partial(_read_stored, tree)
        hubconf = without_modules(hubconf, read, importable)
        found = {entry.name: entry for entry in hubconf.entrypoints}
        for model in locked:
            # somebody has run it, elsewhere
            found.setdefault(model.entrypoint, EntryPoint(name=model.entrypoint, signature="", doc=None, parameters=()))
        entrypoints = tuple(found[name] for name in sorted(found))
        return Offer(name=name, entrypoints=entrypoints, estimated=hubconf.dynamic, read=read)
    return Offer(name=name, entrypoints=noted, estimated=False)


def _read_stored(tree: StoredTree, path: str) -> bytes | None:
    entry = tree.listing.by_path.get(path)
    return (tree.root / path).read_bytes() if entry is not None and entry.mode in (FILE, EXECUTABLE) else None


def _noted(note: bytes | None) -> tuple[EntryPoint, ...] | None:
    """Read what :func:`remember` wrote; None where nothing did, or where it was damaged."""
    try:
        rows = json.loads(note or b"")
        return tuple(EntryPoint(**{**row, "parameters": tuple(row["parameters"])}) for row in rows)
    except (ValueError, TypeError, LookupError):
        return None


def offer_of_folder(folder: Path) -> Offer:
    """Read the hubconf.py of any folder.

    Raises:
        InputError: there is none, or it cannot be parsed.
    """
    path = folder / HUBCONF
    if not path.is_file():
        raise not_a_repository(str(folder), hint="cd to the repository")

    def read(path: str) -> bytes | None:
        return (folder / path).read_bytes() if (folder / path).is_file() else None

    hubconf = without_modules(read_hubconf(path.read_bytes(), file=str(path)), read, importable)
    return Offer(name=str(folder), entrypoints=hubconf.entrypoints, estimated=hubconf.dynamic, read=read)


def offer_of_locked(repo: Repo, store: Store) -> Offer:
    """Return what a locked repository offers, from the store alone.

    Raises:
        OfflineError: its tree is not in the store.
    """
    tree = store.tree(repo.digest)
    if tree is None:
        raise OfflineError(f"the tree of {repo.id} is not in the store", hint="hublock sync")
    return recall(tree, repo.id, store, locked=repo.models)


def find_entrypoint(offer: Offer, name: str) -> EntryPoint:
    """Return one entry point; one that is imported is looked up where it is defined, if that is in the tree.

    Raises:
        EntrypointNotFound: there is none of that name; the nearest are named.
    """
    for entry in offer.entrypoints:
        if entry.name == name:
            if offer.read is None or entry.signature or entry.doc is not None:
                return entry
            return find_definition(name, offer.read) or entry
    names = [entry.name for entry in offer.entrypoints]
    raise EntrypointNotFound(
        f"{offer.name} has no entry point {name}{nearest(name, names)}", hint=f"hublock list {quote(offer.name)}"
    )


def read_tree_hubconf(tree: StoredTree, name: str) -> Hubconf:
    """Read the hubconf.py of a stored tree, without running it.

    Raises:
        InputError: there is none, it is a link to no file, or it cannot be parsed.
    """
    entry, path = tree.listing.by_path.get(HUBCONF), tree.root / HUBCONF
    if entry is None:
        raise not_a_repository(name)
    if entry.mode == LINK and not path.is_file():
        raise InputError(f"{HUBCONF} of {name} is a link that leads to no file", hint="check the ref")
    return read_hubconf(path.read_bytes(), file=f"{name}: {HUBCONF}")
