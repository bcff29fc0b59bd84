"""The Python files of a repository, to be read and not run."""

from collections.abc import Callable, Iterable
from pathlib import Path

from hublock.actions.context import Context
from hublock.actions.pin import pin_once
from hublock.core.hubconf import HUBCONF
from hublock.core.lockfile import Lock, Repo
from hublock.core.names import decode, follow
from hublock.core.reference import Reference
from hublock.core.tree import LINK, SourceFile
from hublock.errors import HublockError, IntegrityError
from hublock.net.git.locked import fetch_locked
from hublock.store.store import StoredTree


def python_files(files: Iterable[SourceFile]) -> dict[str, bytes]:
    """Return path -> bytes of the Python files among ``files``, which are those of a whole tree."""
    by_path = {file.path: file for file in files}
    links = {path: decode(file.data) for path, file in by_path.items() if file.mode == LINK}
    ends = {path: follow(path, links) for path in by_path if path.endswith(".py")}
    return {path: by_path[end].data for path, end in ends.items() if end in by_path}


def stored_sources(repo: Repo, context: Context) -> dict[str, bytes] | None:
    """Return the Python files of a locked repository from the store; None where it is not there, or damaged."""
    try:
        tree = context.store.tree(repo.digest)
        return _read(context.store.check_tree(tree.digest, deep=False)) if tree else None
    except (IntegrityError, OSError):
        return None


def locked_sources(repo: Repo, context: Context, *, base: Path) -> dict[str, bytes] | None:
    """Return the Python files of a locked repository, fetching them without keeping them if they are not stored.

    None where its host no longer has them.
    """
    stored = stored_sources(repo, context)
    if stored is not None:
        return stored
    reference = Reference.parse(repo.id)
    try:
        files = fetch_locked(
            reference, repo.commit, repo.digest, context.transport, base=base, progress=context.progress
        )
    except HublockError as error:
        context.progress.note(f"{repo.id} at {repo.commit[:12]} cannot be had for a comparison: {error.message}")
        return None
    return python_files(files)


def reader_of(reference: Reference, lock: Lock, context: Context, *, base: Path) -> Callable[[str], bytes | None]:
    """Return what gives the source of a Python file of a repository by its path, fetching the repository if need be.

    Raises:
        RemoteError: it could not be fetched.
        InputError: it is not a hub repository.
    """
    folder = Path(reference.location).expanduser() if reference.kind == "local" else None
    if folder is not None and (folder / HUBCONF).is_file():
        # file by file: a work tree may hold a whole virtual environment beside its own
        return lambda path: (folder / path).read_bytes() if (folder / path).is_file() else None
    return _read(pin_once(reference, lock, context, base=base).tree).get


def _read(tree: StoredTree) -> dict[str, bytes]:
    paths = {entry.path: tree.root / entry.path for entry in tree.listing.entries if entry.path.endswith(".py")}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}
