"""A verified source tree, and the package name under which its modules live."""

import re
from dataclasses import dataclass
from pathlib import Path

from hublock.core.digest import Digest
from hublock.core.tree import Listing

PACKAGE = "hublock.repos"
"""The real package below which every repository is imported."""
MARKER = "__hublock_repo__"
"""The global by which a frame of a repository's own code is told from any other."""
ROOT = "__root_"
"""How packages begin that stand for folders which code puts on its ``sys.path``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A verified tree, ready to import."""

    id: str
    """The reference that the lock names it by."""
    digest: Digest
    root: Path
    """Where ``__file__`` points: the stored tree, or a private copy of it."""
    listing: Listing
    """Every file that may be imported, by its id."""

    @property
    def is_users_own(self) -> bool:
        """Whether it is a folder of the user's own, which no lock names."""
        return self.id == str(self.root)


def base_of(name: str) -> str:
    """Return the namespace of which the package ``name`` is an import; those after the first end in a digest."""
    return name.partition("__")[0]


def as_written(text: str) -> str:
    """Return ``text`` with the modules of repositories called as their authors call them."""
    return re.sub(rf"{re.escape(PACKAGE)}\.\w+\.(?:{ROOT}\w+\.)?", "", text)


def namespace(repository: Repository) -> str:
    """Return the package name of ``repository``: ``hublock.repos.<slug>_<16 hex digits of its digest>``."""
    return namespace_of(repository.id, repository.digest)


def namespace_of(identity: str, digest: Digest) -> str:
    """Return the package name of the tree ``digest`` that the lock calls ``identity``."""
    return f"{beginning_of(identity)}{digest.hex[:16]}"


def beginning_of(identity: str) -> str:
    """Return how the package names of trees begin, whatever their digests, that the lock calls ``identity``."""
    bare = re.sub(r"^git\+[a-z]+://", "", identity)
    slug = re.sub(r"[^A-Za-z0-9]+", "_", bare).strip("_")
    if not slug or slug[0].isdigit():
        slug = f"r{slug}"
    return f"{PACKAGE}.{slug}_"
