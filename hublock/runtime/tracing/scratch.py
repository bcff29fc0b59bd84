"""The folder in which a traced entry point lives: an empty home, empty caches, and its own copy of every tree."""

import os
import shutil
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from hublock.core.tree import EXECUTABLE, LINK
from hublock.errors import InputError, TreeMismatch
from hublock.runtime.answers import File
from hublock.runtime.repository import Repository
from hublock.runtime.tracing.confinement import Policy, readable_below

KEPT = frozenset(
    {"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
    | {"CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}
    | {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    | {"SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE"}
)
"""All that a child learns of our environment: what Python and torch need to start."""

_FOLDERS = {
    "HOME": "home", "USERPROFILE": "home", "TORCH_HOME": "torch", "HF_HOME": "hf", "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config", "XDG_DATA_HOME": "home/.local/share", "XDG_STATE_HOME": "home/.local/state",
    "APPDATA": "data", "LOCALAPPDATA": "cache", "MPLCONFIGDIR": "config", "TMPDIR": "tmp", "TEMP": "tmp", "TMP": "tmp",
}  # fmt: skip
"""The child's own folders, by the variables that name them; code that looks into HOME itself finds what homes have."""

_OWN = Path(__file__).parents[3]


class Scratch:
    """A temporary folder, removed with all that was written there."""

    def __init__(self, repository: Repository) -> None:
        """Make the folder, with a writable copy of ``repository``.

        Raises:
            TreeMismatch: a file of it is missing.
        """
        self.root = Path(tempfile.mkdtemp(prefix="hublock-trace-")).resolve()
        self._looks: dict[Path, dict[str, tuple[int, ...]]] = {}
        self._copies: dict[str, Path] = {}
        try:
            for name in {*_FOLDERS.values(), "cwd", "trees", "files"}:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self.readable = readable_below(_home(), [*_python(), *_store_of(repository)])
            self.repository = self.copied(repository)
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def cwd(self) -> Path:
        """The current directory of the child."""
        return self.root / "cwd"

    @property
    def policy(self) -> Policy:
        """What the child may touch."""
        return Policy(readable=self.readable, writable=(self.root,))

    def environment(self, ours: Mapping[str, str], seed: int) -> dict[str, str]:
        """Return the child's environment variables; of ``ours``, only those in ``KEPT``."""
        return {
            **{name: value for name, value in ours.items() if name.upper() in KEPT},
            **{name: str(self.root / folder) for name, folder in _FOLDERS.items()},
            # only to find the child itself: it then takes over our whole import path, in our order
            "PYTHONPATH": str(_OWN),
            "PYTHONHASHSEED": str(seed),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8:replace",
            # its native transfer opens sockets that nothing in Python sees
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TERM": "dumb",
        }

    @property
    def import_path(self) -> list[str]:
        """The folders that the child imports from: ours, without that of a script."""
        return [str(path) for path in _import_path()]

    def give(self, inputs: Mapping[str, Path]) -> None:
        """Put the files that the user hands in where the entry point finds them by their name.

        Raises:
            InputError: a name leads out of the current directory, or there is no such file.
        """
        for name, source in inputs.items():
            target = Path(os.path.normpath(self.cwd / name))
            if not target.is_relative_to(self.cwd) or target == self.cwd:
                raise InputError(f"the input file {name} lies outside the project", hint="move it into the project")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                raise InputError(f"the input file {name} cannot be read: {error.strerror}") from error

    def visible(self, file: File) -> File:
        """Return ``file`` at a path that the child may read: its own, or that of a copy."""
        path = file.path.resolve()
        if any(path.is_relative_to(folder) for folder in (*self.readable, self.root)):
            return file
        copy = self.root / "files" / file.digest.hex
        if not copy.exists():
            shutil.copyfile(path, copy)
        return replace(file, path=copy)

    def copied(self, repository: Repository) -> Repository:
        """Return ``repository`` at a writable copy; the stored tree stays as it is, whatever runs.

        Raises:
            TreeMismatch: a file of it is missing.
        """
        if repository.digest.hex in self._copies:
            return replace(repository, root=self._copies[repository.digest.hex])
        # in a folder of its own, as in the store: code may write beside it as well
        root = self.root / "trees" / str(len(self._looks)) / "tree"
        root.mkdir(parents=True)
        try:
            for entry in repository.listing.entries:
                _copy(repository.root / entry.path, root / entry.path, entry.mode)
        except OSError as error:
            raise TreeMismatch(
                f"the stored tree of {repository.id} cannot be read: {error.strerror} ({error.filename})",
                hint="hublock sync",
            ) from error
        self._looks[root.parent] = dict(_look(root.parent))
        self._copies[repository.digest.hex] = root
        return replace(repository, root=root)

    def was_written(self) -> bool:
        """Tell whether any file of a tree, or beside one, was made, changed or removed."""
        return any(dict(_look(root)) != before for root, before in self._looks.items())

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.root, onerror=_unprotect)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def _import_path() -> Iterator[Path]:
    """Name the folders that we import from; the folder of a script is no part of an environment."""
    script = sys.path[0] if sys.path and not sys.flags.safe_path else None
    for entry in dict.fromkeys([*sys.path, str(_OWN)]):
        path = Path(entry)
        if path.is_absolute() and path.exists() and (entry != script or path == _OWN):
            yield path


def _python() -> Iterator[Path]:
    yield from (Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.base_exec_prefix))
    yield Path(sys.executable).resolve().parent
    yield from map(Path, sysconfig.get_paths().values())
    yield from _import_path()


def _store_of(repository: Repository) -> Iterator[Path]:
    """Name the cache that holds ``repository``, by the tag of the Cache Directory Tagging Specification."""
    yield repository.root
    for folder in repository.root.resolve().parents:
        if (folder / "CACHEDIR.TAG").is_file():
            yield folder
            return


def _copy(source: Path, target: Path, mode: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == LINK and source.is_symlink():
        target.symlink_to(os.readlink(source))
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755 if mode == EXECUTABLE else 0o644)


def _look(root: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            changing = () if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns)
            yield str(path.relative_to(root)), (status.st_mode, *changing)


def _unprotect(_function: object, path: str, _reason: object) -> None:
    """Try again after a folder was made writable; what then stays is left to the system's own cleaning."""
    for target in (Path(path).parent, Path(path)):
        if not target.is_symlink() and target.exists():
            target.chmod(0o700)
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        Path(path).unlink(missing_ok=True)
