"""Small source trees on disk, with their listings."""

import itertools
import textwrap
from collections.abc import Mapping
from pathlib import Path

from hublock.core.tree import FILE, LINK, Entry, Listing, blob_id
from hublock.runtime.repository import Repository

_number = itertools.count()


def make_repository(root: Path, files: Mapping[str, str | bytes], *, identity: str | None = None) -> Repository:
    """Write ``files`` (text is dedented) below ``root``; the name differs each time unless ``identity`` is given."""
    entries = []
    for path, content in files.items():
        data = content if isinstance(content, bytes) else textwrap.dedent(content).encode()
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        entries.append(Entry(path=path, mode=FILE, blob=blob_id(data), size=len(data)))
    return listed(root, entries, identity=identity)


def with_link(repository: Repository, path: str, target: str) -> Repository:
    """Add a symbolic link to a tree."""
    link = repository.root / path
    link.symlink_to(target)
    entry = Entry(path=path, mode=LINK, blob=blob_id(target.encode()), size=len(target))
    return listed(repository.root, [*repository.listing.entries, entry])


def listed(root: Path, entries: list[Entry], *, identity: str | None = None) -> Repository:
    """Return the repository of ``entries``."""
    listing = Listing.of(entries)
    return Repository(id=identity or f"owner/repo{next(_number)}", digest=listing.digest, root=root, listing=listing)
