"""What the crash harness runs and kills: downloads and a source tree into a store.

``python -m tests.store.working CACHE MIRRORS [BROKEN [TOGETHER]]``; ``BROKEN`` names what is broken on purpose.
"""

import fcntl
import hashlib
import os
import random
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path

from hublock.core.digest import Digest
from hublock.core.tree import Listing, SourceFile
from hublock.net import parts, transfer
from hublock.net.download import Downloader, Wanted
from hublock.net.transport import HttpTransport
from hublock.settings import Settings
from hublock.store import store as store_module
from hublock.store import trees
from hublock.store.disk import sync_file, sync_folder
from hublock.store.incoming import Incoming
from hublock.store.layout import Layout
from hublock.store.store import Store

BLOBS = {f"https://a.org/{size}.pth": random.Random(size).randbytes(size) for size in (10, 600_000)}
TOGETHER = BLOBS | {f"https://a.org/{number}.bin": b"%d" % number * 1000 for number in range(6)}
"""What is fetched where several files come at once."""
FILES = (
    SourceFile(path="hubconf.py", mode="100644", data=b"dependencies = []\n"),
    SourceFile(path="net/model.py", mode="100644", data=b"x = 1\n" * 10_000),
    SourceFile(path="net/deep/run.sh", mode="100755", data=b"#!/bin/sh\n"),
    SourceFile(path="link", mode="120000", data=b"net/model.py"),
)
TREE = Listing.of(trees._entry(file) for file in FILES).digest


def digest_of(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def small_parts() -> None:
    """Fetch small files as large ones are: resumed, and in parts."""
    transfer.WORTH_FACTS = 1
    vars(transfer)["WORTH_PARTS"] = 100_000
    parts.SMALLEST, parts.LARGEST = 64 << 10, 64 << 10


def wanted(files: Mapping[str, bytes]) -> list[Wanted]:
    return [Wanted(url=url, digest=digest_of(data), size=len(data)) for url, data in files.items()]


def fetch(cache: Path, mirrors: str) -> None:
    settings = Settings.from_mapping({"HUBLOCK_CACHE_DIR": str(cache), "HUBLOCK_MIRRORS": mirrors})
    transfer.WORTH_FACTS = 1
    downloader = Downloader(HttpTransport(settings), Store(cache), jobs=1)
    for item in wanted(BLOBS):
        downloader.fetch(item)


def fetch_all(cache: Path, mirrors: str) -> None:
    """Fetch several files by several threads, a large one in parts."""
    settings = Settings.from_mapping({"HUBLOCK_CACHE_DIR": str(cache), "HUBLOCK_MIRRORS": mirrors})
    small_parts()
    Downloader(HttpTransport(settings), Store(cache), jobs=4).fetch_all(wanted(TOGETHER))


def work(cache: Path, mirrors: str) -> None:
    fetch(cache, mirrors)
    store = Store(cache)
    if store.tree(TREE) is None:
        store.add_tree(FILES, expected=TREE)
    store.note(TREE, "entrypoints.json", b"[]")


def judge(cache: Path, *, complete: bool) -> None:
    """Check that whatever has a name is whole, and, if ``complete``, that everything is there and nothing is left."""
    root = cache / "v1"
    for path in root.glob("blobs/sha256/*/*"):
        if path.suffix != ".stamp":
            assert digest_of(path.read_bytes()).hex == path.name, f"{path} is not what its name says"
    store = Store(cache)
    for path in root.glob("trees/git-sha256/*/*"):
        for deep in (False, True):
            store.check_tree(Digest("git-sha256", path.name), deep=deep)
    if complete:
        for data in BLOBS.values():
            for deep in (False, True):
                store.check_blob(digest_of(data), size=len(data), deep=deep)
        assert store.tree(TREE) is not None
        assert store.read_note(TREE, "entrypoints.json") == b"[]"
        assert list((root / "partial").iterdir()) == []


def write_slowly(file: FileIO, data: bytes) -> None:
    """Write in so many pieces that a sample of kills must meet some of them."""
    size = max(len(data) // 12, 1)
    for at in range(0, len(data), size):
        file.write(data[at : at + size])


def in_place(self: Incoming, digest: Digest, *, settle: bool = True) -> Path:
    """Write a file under its final name, piece by piece."""
    final = self._layout.blob(digest)
    final.parent.mkdir(parents=True, exist_ok=True)
    data = self.path.read_bytes()
    with final.open("wb", buffering=0) as file:
        write_slowly(file, data)
    self.path.unlink()
    return final


def early_rename(self: Incoming, digest: Digest, *, settle: bool = True) -> Path:
    """Give a file its name when half of its bytes are there, and then write the others."""
    final = self._layout.blob(digest)
    final.parent.mkdir(parents=True, exist_ok=True)
    data = self.path.read_bytes()
    os.truncate(self.path, len(data) // 2)
    sync_file(self.path)
    self.path.rename(final)
    with final.open("r+b", buffering=0) as file:
        file.seek(len(data) // 2)
        write_slowly(file, data[len(data) // 2 :])
    sync_file(final)
    sync_folder(final.parent)
    return final


def forget_to_sync(folders: bool) -> None:
    """Sync all but files, or all but folders."""
    known = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) != folders:
            known(handle)

    vars(os)["fsync"] = fsync


def early_name(folder: Path, files: Iterable[SourceFile]) -> Listing:
    """Give a tree its name before its files are complete."""
    final = Layout(folder.parents[2]).tree(TREE)
    final.parent.mkdir(parents=True, exist_ok=True)
    (final / "tree").mkdir(parents=True)
    listing = Listing.of(trees._entry(file) for file in FILES)
    (final / "listing").write_bytes(listing.to_bytes())
    for file in files:
        if file.mode == "120000":
            trees._write_link(final / "tree", file)
        else:
            trees._write_file(final / "tree", file)
    return listing


def break_it(how: str) -> None:
    if how == "in-place":
        Incoming.publish = in_place  # type: ignore[method-assign]
    elif how == "early-rename":
        Incoming.publish = early_rename  # type: ignore[method-assign]
    elif how in ("unsynced-files", "unsynced-folders"):
        forget_to_sync(folders=how == "unsynced-folders")
    elif how == "early-name":
        store_module.write_tree = early_name  # type: ignore[attr-defined]
    elif how == "no-locks":
        # as on file systems whose locks do nothing
        fcntl.flock = lambda handle, operation: None


def main(words: Sequence[str]) -> int:
    cache, mirrors, broken, together, *_ = [*words, "", ""]
    break_it(broken)
    (fetch_all if together else work)(Path(cache), mirrors)
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
