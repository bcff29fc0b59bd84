"""Where a project is: its manifest and its lock, how they are found, and how they are replaced."""

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from hublock.actions.textfiles import read_text, replace_file
from hublock.core.lockfile import Lock
from hublock.core.lockreader import parse_lock
from hublock.core.nearest import nearest
from hublock.errors import HublockError, InputError, InvalidLock, InvalidManifest, NotLocked, StaleLock, StoreError

if TYPE_CHECKING:
    from hublock.core.manifest import Manifest

MANIFEST, PYPROJECT, LOCK = "hub.toml", "pyproject.toml", "hub.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """One project: the folder, the file that holds its manifest, and its lock."""

    folder: Path
    manifest: Path
    embedded: bool
    """Whether the manifest is ``[tool.hublock]`` of ``pyproject.toml``."""
    lock: Path
    seen: str | None = field(default=None, compare=False, repr=False)
    """The text of the lock when a command began that will replace it; None where any may be replaced."""

    @classmethod
    def at(cls, folder: Path) -> "Project":
        """Return the project of ``folder``, which need not hold anything yet.

        Raises:
            InvalidManifest: both ``hub.toml`` and ``pyproject.toml`` hold hublock tables.
        """
        alone, shared = folder / MANIFEST, folder / PYPROJECT
        embedded = _holds_tables(shared)
        if embedded and alone.exists():
            raise InvalidManifest(
                f"both {alone} and [tool.hublock] of {shared} hold a manifest",
                hint=f"move the tables of one into the other and remove them from {PYPROJECT}",
            )
        return cls(folder=folder, manifest=shared if embedded else alone, embedded=embedded, lock=folder / LOCK)

    def manifest_text(self) -> str:
        """Return the text of the manifest file, empty when there is none."""
        return _text(self.manifest) if self.manifest.exists() else ""

    def read_manifest(self, text: str | None = None) -> "Manifest":
        """Read the manifest, or ``text`` in its place.

        Raises:
            InvalidManifest: it is not a manifest.
            NotLocked: there is none.
        """
        # only here: a load reads no manifest
        from hublock.core.manifest import parse_manifest

        if text is None:
            if not self.manifest.exists():
                raise self.without_manifest()
            text = self.manifest_text()
        return parse_manifest(text, file=str(self.manifest), embedded=self.embedded)

    def lock_text(self) -> str:
        """Return the text of the lock, empty when there is none."""
        return read_text(self.lock) if self.lock.exists() else ""

    def read_lock(self) -> Lock:
        """Read the lock; an empty one when there is none.

        Raises:
            InvalidLock: it is not a lock.
            UnsupportedLockVersion: it was written by a newer hublock.
        """
        return parse_lock(read_text(self.lock), file=str(self.lock)) if self.lock.exists() else Lock()

    def without_manifest(self) -> NotLocked:
        """Return the error for a project that has no manifest; beside a lock, an empty one would drop every pin."""
        # any entry begins so, and a lock that cannot be read whole counts as well
        if not self.lock.exists() or "[[" not in read_text(self.lock):
            return NotLocked(f"{self.folder} holds no {MANIFEST}", hint="hublock init")
        return NotLocked(
            f"{self.folder} holds no {MANIFEST} beside its {LOCK}",
            hint=f"git restore {MANIFEST}, or {PYPROJECT} if that held it; a first add that was broken off may be "
            "typed again; hublock init gives up what is locked",
        )

    def stale(self, reasons: Sequence[str]) -> StaleLock:
        """Return the error for a lock that does not answer the manifest, for these ``reasons``."""
        return StaleLock(f"{self.lock} does not answer the manifest: {'; '.join(reasons)}", hint="hublock lock")

    def write_both(self, text: str, lock: Lock, *, less: bool = False) -> bool:
        """Replace manifest and lock, both or neither; return whether the lock's bytes changed.

        Whoever is killed between the two leaves a lock that answers the manifest, and more: so the lock goes first,
        unless it is to hold ``less``.

        Raises:
            StaleLock: as for :meth:`write_lock`; both are as before.
            StoreError: one of them cannot be written: both are as before, or both have changed.
        """
        with _put_back(*(self.manifest, self.lock) if less else (self.lock, self.manifest)):
            if less:
                self.write_manifest(text)
            changed = self.write_lock(lock)
            if not less:
                self.write_manifest(text)
            return changed

    def write_manifest(self, text: str) -> None:
        """Replace the manifest by ``text``, wholly or not at all.

        Raises:
            StoreError: the folder cannot be written.
        """
        replace_file(self.manifest, text)

    def write_lock(self, lock: Lock) -> bool:
        """Replace the lock, wholly or not at all; return whether its bytes changed.

        Raises:
            StaleLock: it is another one than the command has :attr:`seen`: git has put it there, or an editor.
            StoreError: the folder cannot be written.
        """
        from hublock.core.canonical import dump_lock

        text, now = dump_lock(lock), self.lock_text()
        # git may have made LF into CRLF on checkout: that is no change
        if self.lock.exists() and now.replace("\r\n", "\n") == text:
            return False
        if self.seen is not None and now != self.seen:
            raise StaleLock(f"{self.lock} was changed meanwhile, and stays as it is now", hint="type the command again")
        # what is written must read back as what was meant, or nothing is written
        if dump_lock(parse_lock(text, file=str(self.lock))) != text:
            raise AssertionError(f"{self.lock}: the written lock does not read back")
        replace_file(self.lock, text)
        return True

    def check_writable(self, *, lock_only: bool = False) -> None:
        """Refuse early what could not be written after minutes of work; ``lock_only``, where the manifest stays.

        Raises:
            StoreError: the folder, the manifest or the lock is read-only, or not readable either; or one of them is a
                link into no folder.
        """
        # where one is a link, it is replaced in the folder that it leads to
        replaced = (self.lock,) if lock_only else (self.manifest, self.lock)
        homes = {path: Path(os.path.realpath(path)).parent for path in replaced}
        for path, home in homes.items():
            if not home.is_dir():
                raise StoreError(
                    f"{path} is a link into {home}, which is no folder", hint=f"mkdir -p {quote(str(home))}"
                )
        for path in (self.folder, *homes.values(), self.manifest, self.lock):
            if path.exists() and not os.access(path, os.W_OK):
                readable = os.access(path, os.R_OK)
                raise StoreError(
                    f"{path} {'is read-only' if readable else 'can neither be read nor written'}",
                    hint=f"chmod u+{'w' if readable else 'rw'} {quote(str(path))}",
                )


def read_named_lock(path: Path, *, hint: str = "hublock lock") -> Lock:
    """Read the lock at ``path``; ``hint`` is what to do where there is none.

    Raises:
        NotLocked: there is none.
        InputError: it is a folder, or no text.
        InvalidLock: it is not a lock.
        UnsupportedLockVersion: it was written by a newer hublock.
    """
    if not path.exists():
        raise NotLocked(f"{path} does not exist", hint=hint)
    if path.is_dir() and path.name != LOCK:
        raise InputError(f"{path} is a folder, not a lock", hint=f"name {path / LOCK}")
    try:
        return parse_lock(read_text(path), file=str(path))
    except InvalidLock as error:
        if path.name != LOCK:
            error.hint = f"name a lock, such as {path.parent / LOCK}"
        raise


def find_project(start: Path, home: Path) -> Project | None:
    """Search ``start`` and the folders above it for a manifest or a lock."""
    for folder in upward(start, home):
        if (folder / MANIFEST).exists() or (folder / LOCK).exists() or _holds_tables(folder / PYPROJECT):
            return Project.at(folder)
    return None


def open_project(named: Path) -> Project:
    """Return the project a user named: its folder, or its manifest or lock file.

    Raises:
        InputError: there is no such folder, or the file is another one.
    """
    folder = named.parent if named.name in (MANIFEST, PYPROJECT, LOCK) else named
    if folder.is_file():
        raise InputError(
            f"{folder} is no project: a command works on {MANIFEST} and the {LOCK} beside it",
            hint=f"name the folder {folder.parent}",
        )
    if not folder.is_dir():
        near = nearest(folder.name, (MANIFEST, PYPROJECT, LOCK)) if folder.suffix else ""
        hint = f"name the folder {folder.parent}" if near else f"mkdir -p {quote(str(folder))}"
        raise InputError(f"the project folder {folder} does not exist{near}", hint=hint)
    return Project.at(folder)


def find_lock(start: Path, home: Path) -> Path:
    """Return the first ``hub.lock`` in ``start`` and the folders above it.

    Raises:
        NotLocked: there is none; the message names every folder tried.
    """
    tried = list(upward(start, home))
    for folder in tried:
        if (folder / LOCK).is_file():
            return folder / LOCK
    raise NotLocked(
        f"no {LOCK} in {', '.join(map(str, tried))}",
        hint="hublock add OWNER/REPO ENTRYPOINT, or hublock.use(PATH) for a lock elsewhere",
    )


def upward(start: Path, home: Path) -> Iterator[Path]:
    """Yield ``start`` and the folders above it.

    It stops after a folder that holds ``.git`` and at the home folder, and before a folder of another user or of
    everybody, as /tmp is: nobody else's file decides what runs here.
    """
    home = home.resolve()
    owner = _owner(start)
    for folder in (start.resolve(), *start.resolve().parents):
        if _owner(folder) != owner or (folder != start.resolve() and _is_everybodys(folder)):
            return
        yield folder
        if folder == home or (folder / ".git").exists():
            return


def _owner(folder: Path) -> int:
    try:
        return folder.stat().st_uid
    except OSError:
        return -1


def _is_everybodys(folder: Path) -> bool:
    """Tell whether any user may put files there, and remove no others' (POSIX: the sticky bit)."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return os.name == "posix" and bool(mode & stat.S_ISVTX and mode & stat.S_IWOTH)


def _holds_tables(pyproject: Path) -> bool:
    """Tell whether ``pyproject.toml`` has ``[tool.hublock]``; where it does not parse, whether it seems so."""
    try:
        text = _text(pyproject)
    except (FileNotFoundError, InputError):
        return False
    if "hublock" not in text:
        return False
    try:
        tool = tomllib.loads(text).get("tool")
    except (tomllib.TOMLDecodeError, RecursionError):
        # in conflict, say: to read it tells where
        return re.search(r"""^[\s\[]*tool\s*\.\s*["']?hublock\b""", text, re.MULTILINE) is not None
    return isinstance(tool, dict) and "hublock" in tool


def _text(path: Path) -> str:
    # an editor of Windows may have put a byte order mark first
    return read_text(path).removeprefix("\ufeff")


@contextmanager
def _put_back(first: Path, last: Path) -> Iterator[None]:
    """Let ``first`` be replaced and then ``last``; where that fails before ``last`` is another file, put it back."""
    old, other = read_text(first) if first.exists() else None, _inode(last)
    try:
        yield
    except BaseException:
        # what failed is told, and not what else did
        with suppress(OSError, HublockError):
            if _inode(last) != other:
                pass
            elif old is None:
                Path(os.path.realpath(first)).unlink(missing_ok=True)
            elif read_text(first) != old:
                replace_file(first, old)
        raise


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
