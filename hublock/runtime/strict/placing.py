"""Put verified files where foreign code wants them: links inside the private hub folder, copies everywhere else."""

import contextlib
import filecmp
import os
import shutil
import uuid
from collections.abc import Container
from pathlib import Path

from hublock.core.reference import Reference
from hublock.errors import InvalidReference
from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.strict.folders import folder_of_process


def place(source: Path, target: Path, *, private: Path) -> None:
    """Put the bytes of ``source`` at ``target``, in place of what is there.

    Below ``private`` it may be a link and folders are made; elsewhere it is a copy of its own, because code that
    appends to its download must not write into the store, and a missing folder is an error as in torch.hub.

    Raises:
        OSError: ``target`` cannot be written.
    """
    if is_below(target, private):
        target.parent.mkdir(parents=True, exist_ok=True)
        link(source, target)
    else:
        copy(source, target)


def let_write(files: Container[str], link: Path, *, private: Path, keep: bool) -> None:
    """Make of a link below ``private`` to one of ``files`` a file of its own, which code is about to write.

    With its bytes, if they ``keep``. Whoever may write everywhere would else write into the store.
    """
    if link.is_symlink() and is_below(link, private) and os.path.realpath(link) in files:
        if keep:
            copy(Path(os.path.realpath(link)), link)
        else:
            link.unlink()


def is_below(path: Path, folder: Path) -> bool:
    """Tell whether ``path`` lies in ``folder`` when the links on the way are followed."""
    parent = Path(os.path.realpath(path.parent))
    return parent.is_relative_to(os.path.realpath(folder))


def link(source: Path, target: Path) -> None:
    """Make ``target`` a link to ``source``, or a copy where links cannot be made."""
    partial = _partial(target)
    try:
        partial.symlink_to(Path(os.path.realpath(source)))
    except OSError:
        copy(source, target)
    else:
        partial.replace(target)


def copy(source: Path, target: Path) -> None:
    """Make ``target`` a copy of ``source`` that shares its blocks where the file system can; whole or not at all."""
    partial = _partial(target)
    try:
        if not _reflink(source, partial):
            shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")


def _reflink(source: Path, target: Path) -> bool:
    """Share the blocks of a file by FICLONE (ioctl_ficlone(2)); False where there is no such thing."""
    try:
        import fcntl
    except ImportError:
        return False
    ficlone = 0x40049409  # fcntl.FICLONE, which Python knows from 3.12 on
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), ficlone, old.fileno())
        except OSError:
            return False
    return True


_copies: dict[Path, Path] = {}
_copying = ForkSafeLock()


def writable_copy(root: Path) -> Path:
    """Return the one copy of a stored tree for code that writes beside its own files; it goes with this process."""
    with _copying:
        if root not in _copies:
            _copies[root] = _copy_tree(root, folder_of_process() / root.name)
        else:
            _restore(root, _copies[root])
        return _copies[root]


def forget_copy(copy: Path) -> None:
    """Let the next load get a copy of its own: what a refused one wrote there nobody shall find."""
    with _copying:
        for root in [root for root, known in _copies.items() if known == copy]:
            del _copies[root]


def _restore(root: Path, folder: Path) -> None:
    """Give the files of the tree the bytes that they have there; what code has put beside them stays.

    What it has put in their place goes, and is never written through: a link may lead to files of the user's.
    """
    for path in sorted(root.rglob("*")):
        there = folder / path.relative_to(root)
        if path.is_symlink():
            target = os.readlink(path)
            if not there.is_symlink() or os.readlink(there) != target:
                _remove_any(there)
                there.symlink_to(target)
        elif path.is_dir():
            if there.is_symlink() or not there.is_dir():
                _remove_any(there)
                there.mkdir()
        elif there.is_symlink() or not there.is_file() or not filecmp.cmp(path, there, shallow=False):
            _remove_any(there)
            shutil.copyfile(path, there)


def _remove_any(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy_tree(root: Path, copy: Path) -> Path:
    shutil.copytree(root, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    return copy


def show_repository(hub_dir: Path, name: str, root: Path) -> None:
    """Link ``owner_repo_ref`` in a hub folder to a tree: some repositories look for their files there.

    Without a ref the name of the default branch is not known here, so both of torch.hub's guesses are linked.
    """
    for folder in hub_folders(name):
        with contextlib.suppress(OSError):
            (hub_dir / folder).symlink_to(root, target_is_directory=True)


def hub_folders(name: str) -> tuple[str, ...]:
    """Return the folder names that torch.hub uses for the repository with the id ``name``."""
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return ()
    words = reference.location.removesuffix(".git").replace("\\", "/").rstrip("/").split("/")[-2:]
    refs = [reference.ref] if reference.ref else ["main", "master"]
    return tuple("_".join([*words, ref.replace("/", "_")]) for ref in refs)
