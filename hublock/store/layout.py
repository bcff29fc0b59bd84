"""Where everything lies in the store.

::

    <cache>/v1/
        CACHEDIR.TAG
        blobs/sha256/ab/<hex>            a file, 0444; <hex>.stamp beside it
        trees/git-sha256/ab/<hex>/       a source tree: tree/ (0444 and 0555), listing, stamp, notes/
        partial/                         what is still being written
        locks/                           one empty file per thing that is waited for

Names of our own are lower-case hex and a few fixed words, so that no file system can confuse two of them.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hublock.core.cached import cached
from hublock.core.digest import Digest

VERSION = "v1"
TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of hublock (https://bford.info/cachedir/).\n"


@dataclass(frozen=True)
class Layout:
    """The paths of one store."""

    cache: Path

    @cached
    def root(self) -> Path:
        """The folder of this version of the store."""
        return self.cache / VERSION

    @cached
    def tag(self) -> Path:
        """The file that tells backup programs to skip the folder."""
        return self.root / "CACHEDIR.TAG"

    @cached
    def partial(self) -> Path:
        """The folder of what is still being written; on the same file system as the rest."""
        return self.root / "partial"

    @lru_cache(1024)  # noqa: B019 - there are few stores
    def blob(self, digest: Digest) -> Path:
        """Return where the file of ``digest`` lies."""
        return self.root.joinpath("blobs", digest.scheme, digest.hex[:2], digest.hex)

    def blob_stamp(self, digest: Digest) -> Path:
        """Return where it is written how that file looked when it was last hashed."""
        return self.blob(digest).with_suffix(".stamp")

    def tree(self, digest: Digest) -> Path:
        """Return the folder of a source tree, its listing and its notes."""
        return self.root / "trees" / digest.scheme / digest.hex[:2] / digest.hex

    def lock(self, key: str) -> Path:
        """Return the file that is locked while somebody works on ``key``."""
        return self.lock_named(key_name(key))

    def lock_named(self, name: str) -> Path:
        """Return the same of a key by its :func:`key_name`, with which the names of its partial files begin."""
        return self.root.joinpath("locks", f"{name}.lock")


def key_name(key: str) -> str:
    """Return 32 hex digits that stand for ``key`` (a URL, a digest) in file names."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
