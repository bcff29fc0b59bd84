"""Files on their way into the store: each writer has one of its own, and what it leaves behind can be taken over."""

import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from hublock.core.digest import Digest
from hublock.errors import StoreError
from hublock.store.disk import (
    STARTED,
    host_name,
    open_shared,
    own_name,
    publish,
    remove,
    sync_file,
    sync_folder,
    write_beside,
    write_whole,
    writing,
)
from hublock.store.layout import Layout
from hublock.store.stamps import stamp

ABANDONED_AFTER = 120.0
"""Seconds without a write after which a partial file of an unknown machine counts as left behind."""
DAY = 86_400.0
"""Seconds after which a folder does: it stays as it is while the files in it are written."""

_OWNED = re.compile(r"-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<number>\d+)$")


class Incoming:
    """A partial file that only this object writes; use it through :meth:`Store.incoming`.

    It may hold bytes already: those an earlier, broken-off attempt for the same key left.
    """

    def __init__(self, layout: Layout, name: str, *, alone: bool = True) -> None:
        """Take over what was left behind under ``name``; else a file is made once it is opened.

        Unless ``alone``, others may be writing under the same name, and everybody begins anew.
        """
        self._layout = layout
        self._left = layout.partial / name
        self.path = own_name(self._left)
        self._file: FileIO | None = None
        self._synced = self._gone = False
        self._facts = self._claim() if alone else {}

    @property
    def size(self) -> int:
        """How many bytes there are already."""
        return max(_size(self.path), 0)

    @property
    def facts(self) -> Mapping[str, object]:
        """What was noted about the bytes; ``synced`` is true if they are known to have reached the disk."""
        return self._facts

    def note(self, facts: Mapping[str, object]) -> None:
        """Note what the next attempt must know to go on."""
        # never facts beside no file, which nobody would take over
        self.open()
        if facts != self._facts:
            self._write_facts(facts)

    def open(self) -> FileIO:
        """Return the file, open to read and write, not buffered; it is closed by who made this object.

        Raises:
            StoreError: it cannot be made.
        """
        if self._file is None:
            with writing(self.path):
                self._file = open_shared(self.path)
        return self._file

    def clear(self) -> None:
        """Begin again with an empty file and no facts."""
        self._forget()
        if self.size:
            with writing(self.path):
                os.truncate(self.path, 0)

    def sync(self) -> None:
        """Have the finished file on the disk before returning.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            with writing(self.path):
                os.fsync(self.open().fileno())
        except StoreError:
            # what is missing is not told, and a second sync would succeed: nobody may take these bytes over
            self._forget()
            raise
        self._synced = True

    def publish(self, digest: Digest, *, settle: bool = True) -> Path:
        """Give the finished file its name, synced before; its bytes must have been hashed to ``digest``.

        Unless ``settle``, who calls has :meth:`Store.settle` make the name last.

        Raises:
            StoreError: it cannot be written.
        """
        final = self._layout.blob(digest)
        if not self._synced:
            self.sync()
        # first, so that no facts stay behind alone
        self._forget()
        facts = publish(self.open(), self.path, final, settle=settle)
        self._gone = True
        # a stamp is a note of what was just proven; one that is missing only costs a hash
        with suppress(OSError):
            if facts is not None:
                write_beside(self._layout.blob_stamp(digest), stamp(facts))
        return final

    def close(self) -> None:
        """Leave unfinished bytes for the next attempt; those that nothing was noted about just go."""
        if self._file is not None:
            self._file.close()
        if self._gone:
            return
        if not self._facts or not self.size:
            remove(self.path)
            self._forget()
            return
        with suppress(StoreError, OSError):
            sync_file(self.path)
            self._write_facts({**self._facts, "synced": True})
        # never bytes beside the facts of other bytes
        remove(_facts(self._left))
        with writing(self._left):
            self.path.replace(self._left)
            with suppress(FileNotFoundError):
                _facts(self.path).replace(_facts(self._left))

    def _claim(self) -> dict[str, object]:
        """Take over what was left behind; return what is known of the bytes."""
        taken = False
        with writing(self.path):
            for left in sorted(self._leavings(), key=_size, reverse=True):
                if taken or not (taken := _take(left, self.path)):
                    remove(left)
                    remove(_facts(left))
        if not taken:
            return {}
        facts = _read_facts(self.path)
        if facts.pop("inode", None) == _inode(self.path):
            return facts
        # two who took over at once, where locks do nothing, may have mixed bytes and facts
        remove(_facts(self.path))
        return {}

    def _write_facts(self, facts: Mapping[str, object]) -> None:
        data = json.dumps({**facts, "inode": _inode(self.path)}).encode()
        write_whole(_facts(self.path), data, scratch=self._layout.partial, durable=False)
        self._facts = dict(facts)

    def _forget(self) -> None:
        if self._facts:
            remove(_facts(self.path))
            self._facts = {}

    def _leavings(self) -> list[Path]:
        # not by a glob: that compiles a pattern for every file fetched
        try:
            names = os.listdir(self._layout.partial)  # noqa: PTH208
        except FileNotFoundError:
            return []
        mine = [name for name in names if name.startswith(self._left.name)]
        found = [self._layout.partial / name for name in mine if not name.endswith(".facts")]
        return [path for path in found if left_behind(path)]


def clear_leavings(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it, under names that :func:`own_name` gave them."""
    with suppress(OSError):
        for name in os.listdir(path.parent):  # noqa: PTH208 - names may hold what globs take for patterns
            if name.startswith(path.name) and _OWNED.fullmatch(name[len(path.name) :]):
                left = path.with_name(name)
                if left_behind(left):
                    left.unlink()


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Give a file that takes the place of ``path`` once the block has ended well: written beside, synced, renamed.

    Raises:
        OSError: it cannot be written; ``path`` is as before.
    """
    hidden = path.with_name(f".{path.name}")
    clear_leavings(hidden)
    temporary = own_name(hidden)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def left_behind(path: Path) -> bool:
    """Say whether nobody writes ``path`` any more."""
    match = _OWNED.search(path.name)
    if match is None:
        return True
    if match["host"] == host_name() and os.name == "posix":
        pid = int(match["pid"])
        return int(match["number"]) < STARTED if pid == os.getpid() else not _lives(pid)
    with suppress(OSError):
        facts = path.stat()
        return time.time() - facts.st_mtime > (DAY if stat.S_ISDIR(facts.st_mode) else ABANDONED_AFTER)
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _take(left: Path, mine: Path) -> bool:
    """Take over a file of one's own and its facts; of several that try, one succeeds."""
    try:
        # only its owner could make another user's file read-only in the end
        if os.name == "posix" and left.stat().st_uid != os.geteuid():
            return False
        left.rename(mine)
    except OSError:
        return False
    with suppress(OSError):
        _facts(left).rename(_facts(mine))
    return True


def _read_facts(path: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        facts = json.loads(_facts(path).read_bytes())
        if isinstance(facts, dict):
            return facts
    # whatever it holds instead does not stay beside other bytes
    remove(_facts(path))
    return {}


def _facts(path: Path) -> Path:
    return path.with_name(path.name + ".facts")


def _inode(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_ino
    return -1


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return -1
