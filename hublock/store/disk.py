"""Writing so that a name that exists is whole: write elsewhere, sync, rename, sync the folder."""

import errno
import hashlib
import itertools
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache, partial
from io import FileIO
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import BinaryIO

from hublock.errors import StoreError

READ_ONLY = 0o444
SHARED = stat.S_ISGID | stat.S_IRWXG
"""What marks a folder that a group shares on purpose (``chmod g+rwxs``); nothing is ever shared with everybody."""
STARTED = time.time_ns()
"""Numbers below are an earlier process's, even one of the same process id, as all of a container are."""
STRIDE = 4 << 20
"""Bytes after which the disk begins to work: fewer cost more than they save."""
_numbers = itertools.count(STARTED)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the failures of writing ``path`` into a StoreError that names it.

    Raises:
        StoreError: the disk is full or read-only, or may not be written.
    """
    try:
        yield
    except OSError as error:
        raise _store_error(path, error) from error


@contextmanager
def passing_file() -> Iterator[BinaryIO]:
    """Give a file without a name, outside the store, that nobody needs after the block.

    Raises:
        StoreError: the disk that it is on is full, or may not be written.
    """
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        raise not_put_aside(error) from error


def not_put_aside(error: OSError) -> StoreError:
    """Return the error for a :func:`passing_file` that cannot be written."""
    # where there is none, to ask for it fails as well
    where = tempfile.tempdir or "TMPDIR"
    return StoreError(
        f"nothing can be put aside in {where}: {error.strerror or error}",
        hint="free some space there, or set TMPDIR to another folder",
    )


def _store_error(path: Path, error: OSError) -> StoreError:
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "free some space (`hublock cache prune`), or set HUBLOCK_CACHE_DIR to a larger disk"
    elif error.errno == errno.ENOENT:
        hint = "run the same command again, or set HUBLOCK_CACHE_DIR to a folder you can write"
    else:
        hint = "set HUBLOCK_CACHE_DIR to a folder you can write"
    return StoreError(f"{error.filename or path} cannot be written: {reason}", hint=hint)


def unreadable(path: Path, error: OSError) -> StoreError:
    """Return the error for a stored file that is there and cannot be read."""
    hint = (
        f"chmod u+r {quote(str(path))}"
        if isinstance(error, PermissionError)
        else f"rm {quote(str(path))}, then hublock sync"
    )
    return StoreError(f"{path} cannot be read: {error.strerror}", hint=hint)


def make_folder(path: Path, *, settle: bool = True) -> None:
    """Make ``path`` and its parents; below a folder that a group shares, they are shared as well.

    Unless ``settle``, who calls syncs the parent of ``path`` later.

    Raises:
        StoreError: it cannot be made.
    """
    if path.is_dir():
        return
    with writing(path):
        make_folder(path.parent)
        with suppress(FileExistsError):
            if path.parent.stat().st_mode & SHARED == SHARED:
                _make_shared(path)
            else:
                path.mkdir()
            if settle:
                sync_folder(path.parent)


def _make_shared(path: Path) -> None:
    """Make a folder of a shared store so that nobody sees it before its group may write there."""
    own = own_name(path)
    own.mkdir()
    try:
        own.chmod(stat.S_IMODE(own.stat().st_mode) | SHARED)
        with _only_maker(path.parent):
            # a rename replaces an empty folder, also one in which somebody is just about to make something
            if not path.is_dir():
                own.rename(path)
    except OSError:
        # somebody else has made it meanwhile, as where the file system cannot lock
        if not path.is_dir():
            raise
    finally:
        with suppress(FileNotFoundError):
            own.rmdir()


@contextmanager
def _only_maker(folder: Path) -> Iterator[None]:
    """Let one process at a time make folders in ``folder``, where the file system can lock."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        # not by closing alone: a child that another thread has forked meanwhile has the folder open as well
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def share(folder: Path) -> bool:
    """Let the group write every folder from ``folder`` down, if it may write the one above; tell whether it may."""
    if folder.parent.stat().st_mode & SHARED != SHARED:
        return False
    for here, _, _ in os.walk(folder):
        Path(here).chmod(stat.S_IMODE(Path(here).stat().st_mode) | SHARED)
    return True


def write_beside(path: Path, text: str) -> None:
    """Write a small ASCII file that may be lost or torn, for whoever may write the folder it lies in.

    Raises:
        OSError: it cannot be written.
    """
    handle = _open_shared(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(handle, text.encode("ascii"))
    finally:
        os.close(handle)


def open_shared(path: Path) -> FileIO:
    """Open a file to read and write, made if need be, for whoever may write the folder it lies in.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        handle = _open_shared(path, os.O_RDWR)
    except FileNotFoundError:
        make_folder(path.parent)
        handle = _open_shared(path, os.O_RDWR)
    return FileIO(handle, "r+")


def _open_shared(path: Path, flags: int) -> int:
    """Open a file for writing, made if need be, that whoever may write its folder may write as well."""
    mode = inherited_mode(path.parent)
    handle = os.open(path, os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | flags, mode)
    # the file may be another user's
    with suppress(PermissionError):
        if mode & stat.S_IWGRP and os.name == "posix":
            os.fchmod(handle, mode)
    return handle


def own_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other writer uses and that tells whether its writer still lives."""
    return path.with_name(f"{path.name}-{host_name()}-{os.getpid()}-{next(_numbers)}")


@cache
def host_name() -> str:
    """Return eight hex digits that stand, in file names, for where process numbers mean what they mean here.

    That is this machine, and in a container no other one that calls itself the same (pid_namespaces(7)).
    """
    numbers = ""
    with suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def inherited_mode(folder: Path) -> int:
    """Return the mode of a writable file in ``folder``: shared with the group where the folder is."""
    with suppress(OSError):
        mode = folder.stat().st_mode
        return mode & 0o644 | 0o600 | (stat.S_IWGRP if mode & SHARED == SHARED else 0)
    return 0o600


class Writer:
    """Writes an unbuffered file from some place on, and has the disk work beside it, so that the sync waits less."""

    def __init__(self, file: FileIO, at: int = 0, *, alone: AbstractContextManager[object] | None = None) -> None:
        """Write from byte ``at`` on, each time with ``alone`` held."""
        self._file, self._at, self._on_disk = file, at, at
        self._alone = alone or nullcontext()
        file.seek(at)

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data``, which the system may take in pieces."""
        left = memoryview(data)
        with self._alone:
            while left:
                left = left[self._file.write(left) :]
        self._at += len(data)
        if self._at - self._on_disk >= STRIDE:
            self.start_sync()

    def start_sync(self) -> None:
        """Have the system begin to bring to the disk what was written."""
        # no bytes would mean all to the end of the file, which others may be writing
        if (written := self._at - self._on_disk) and hasattr(os, "posix_fadvise"):
            # posix_fadvise(2): Linux writes what is dirty before it lets go of pages, and keeps what it is writing
            with suppress(OSError):
                os.posix_fadvise(self._file.fileno(), self._on_disk, written, os.POSIX_FADV_DONTNEED)
        self._on_disk = self._at


def sync_file(path: Path) -> None:
    """Have the bytes of ``path`` on the disk before returning."""
    # Windows syncs only what is open for writing
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Have the names in ``path`` on the disk before returning, where a folder can be synced.

    Raises:
        OSError: they cannot be written.
    """
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # what file systems without folder sync say
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def publish(file: FileIO, temporary: Path, final: Path, *, settle: bool = True) -> os.stat_result | None:
    """Give a finished file its name, read-only, and return what it looks like; None if another file has that name.

    ``file`` is the open file at ``temporary``, which has been synced; it is closed. Unless ``settle``, who calls syncs
    the folder of the name and the one above later: then a power cut may lose the name, never the bytes of a name that
    is there.

    Raises:
        StoreError: it cannot be written.
    """
    with writing(final):
        # closed before it is renamed, which Windows demands
        with file:
            facts = os.fstat(file.fileno())
        temporary.chmod(READ_ONLY)
        if final.is_file():
            remove(temporary)
            return None
        try:
            temporary.replace(final)
        except FileNotFoundError:
            make_folder(final.parent, settle=settle)
            temporary.replace(final)
        if settle:
            sync_folder(final.parent)
        return facts


def write_whole(path: Path, data: bytes, *, scratch: Path, durable: bool = True) -> None:
    """Write a small file by way of the folder ``scratch``: readers see the old bytes or the new ones.

    Raises:
        StoreError: it cannot be written.
    """
    make_folder(path.parent)
    make_folder(scratch)
    temporary = own_name(scratch / "small")
    with writing(path):
        try:
            with temporary.open("xb") as file:
                file.write(data)
            temporary.chmod(inherited_mode(path.parent))
            if durable:
                sync_file(temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file or folder of ours, read-only or not; what is not there is fine.

    Raises:
        StoreError: it cannot be removed.
    """
    with writing(path), suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onerror=partial(_try_writable, path))
        else:
            if os.name != "posix":
                path.chmod(0o600)
            path.unlink()


def _try_writable(
    top: Path, function: object, path: str, failure: tuple[type[BaseException], BaseException, TracebackType]
) -> None:
    """Remove what is read-only below ``top``, or lies in a folder that is."""
    if isinstance(failure[1], FileNotFoundError):
        return
    place = Path(path)
    for closed in (place.parent, place):
        if closed.is_relative_to(top) and not closed.is_symlink():
            closed.chmod(0o700)
    if place.is_symlink() or not place.is_dir():
        place.unlink()
    elif function is os.rmdir:
        place.rmdir()
    else:
        # it could not be looked into
        shutil.rmtree(place, onerror=partial(_try_writable, top))
