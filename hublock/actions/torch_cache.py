"""Write what a lock names as torch.hub itself would have cached it, so that plain torch.hub runs offline.

The layout is that of torch/hub.py: ``owner_repo_ref`` folders, ``checkpoints/`` with files by the last part of their
URL, and ``trusted_list``. torch.hub does not verify what it finds there; hublock does only as it writes.
"""

import itertools
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from hublock.core.digest import Digest
from hublock.core.lockfile import Lock, Repo
from hublock.core.reference import Reference
from hublock.core.tree import EXECUTABLE, LINK, Entry
from hublock.errors import InputError, StoreError
from hublock.runtime.answers import sha256_now
from hublock.runtime.strict import placing
from hublock.store.disk import remove
from hublock.store.store import Store
from hublock.store.trees import StoredTree

LONGEST = 255 - len(".partial") - 33
"""Bytes of a file name that leave room for what torch.hub appends while it fetches, and so does a copy here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was written."""

    folder: Path
    """torch.hub's own folder."""
    trees: int
    files: int
    set_aside: tuple[tuple[str, str], ...]
    """What stood there before with other content, and under which name it is kept."""
    left_out: tuple[str, ...]
    """What torch.hub has no place for, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named:
    """Something and the name torch.hub has for it."""

    name: str
    what: str
    digest: Digest
    size: int = 0


def write_torch_cache(lock: Lock, store: Store, torch_home: Path) -> Written:
    """Copy every tree and every file by URL of ``lock`` into torch.hub's own cache below ``torch_home``.

    What stands there under the same name, but with other content, is set aside.

    Raises:
        InputError: two files or trees of the lock would have one name; nothing was written.
        OfflineError: something is not in the store.
        IntegrityError: something in the store is not what the lock says.
        StoreError: the cache cannot be written.
    """
    trees, files = _distinct(_trees(lock)), _distinct(_files(lock))
    stored = [(item, store.check_tree(item.digest)) for item in trees]
    for item in files:
        store.check_blob(item.digest, size=item.size)
    hub = torch_home / "hub"
    try:
        # one at a time, or they would take each other's half trees for something else
        with store.alone(f"torch.hub {hub.resolve()}"):
            (hub / "checkpoints").mkdir(parents=True, exist_ok=True)
            kept = [(item.name, _put_tree(tree, hub / item.name)) for item, tree in stored]
            kept += [(item.name, _put_file(item, store, hub / "checkpoints" / item.name)) for item in files]
            _trust(hub / "trusted_list", [_owner_and_name(repo) for repo in lock.repos if _on_github(repo)])
    except OSError as error:
        # of a copy that fails, `filename` is its source
        raise StoreError(
            f"{error.filename2 or error.filename or hub} cannot be written: {error.strerror}",
            hint="set TORCH_HOME to a folder you can write",
        ) from error
    return Written(
        folder=hub,
        trees=len(trees),
        files=len(files),
        set_aside=tuple((name, aside) for name, aside in kept if aside),
        left_out=tuple(dict.fromkeys(_left_out(lock))),
    )


def _trees(lock: Lock) -> Iterator[_Named]:
    for repo in filter(_on_github, lock.repos):
        yield _Named(name=_folder_name(repo), what=repo.id, digest=repo.digest)


def _files(lock: Lock) -> Iterator[_Named]:
    for file in lock.url_files:
        if not _misfit(file.url):
            yield _Named(name=_file_name(file.url), what=file.url, digest=file.digest, size=file.size)


def _file_name(url: str) -> str:
    """Return the name torch.hub has for what it fetches from ``url``."""
    # not urlsplit: torch.hub cuts parameters (`;v=2`) off
    return urlparse(url).path.rpartition("/")[2]


def _misfit(url: str) -> str | None:
    """Say why torch.hub cannot keep a file under the name it has for ``url``, or return None."""
    name = _file_name(url)
    if name in ("", ".", ".."):
        return f"{url} names no file"
    return f"{url} names a file in more than {LONGEST} bytes" if len(os.fsencode(name)) > LONGEST else None


def _left_out(lock: Lock) -> Iterator[str]:
    """Say what of ``lock`` torch.hub has no place for."""
    for repo in lock.repos:
        if not _on_github(repo):
            yield f"{repo.id} is not on GitHub"
        for model in repo.models:
            yield from filter(None, (_misfit(file.url) for file in model.weights))
            yield from (f"{file.file} of {file.repo} is Hugging Face's" for file in model.hf)
    yield from filter(None, (_misfit(file.url) for file in lock.weights))


def _on_github(repo: Repo) -> bool:
    return Reference.parse(repo.id).kind == "github"


def _owner_and_name(repo: Repo) -> str:
    return Reference.parse(repo.id).location.replace("/", "_")


def _folder_name(repo: Repo) -> str:
    # without a ref, torch.hub has two guesses at the default branch when it has no network
    main, *master = placing.hub_folders(repo.id)
    return master[0] if master and repo.ref == "refs/heads/master" else main


def _distinct(items: Iterable[_Named]) -> list[_Named]:
    """Return one item for each name, as it is spelled; torch.hub would give one of two for the other."""
    folded: dict[str, _Named] = {}
    found: dict[str, _Named] = {}
    for item in items:
        # a file system may not tell cases apart; where it does, torch.hub looks for every spelling that code uses
        known = folded.setdefault(item.name.casefold(), item)
        found.setdefault(item.name, item)
        if known.digest != item.digest:
            raise InputError(
                f"torch.hub would keep {known.what} and {item.what} under one name, {item.name}",
                hint="hublock run SCRIPT, which tells them apart",
            )
    return list(found.values())


def _put_file(item: _Named, store: Store, target: Path) -> str | None:
    """Copy a file of the store; return the name of what stood there, which is kept."""
    if target.is_file() and not target.is_symlink() and sha256_now(target) == item.digest:
        return None
    blob = store.blob(item.digest)
    assert blob is not None
    aside = _set_aside(target)
    placing.copy(blob, target)
    return aside


def _set_aside(path: Path) -> str | None:
    """Rename what is at ``path``, if there is something, and return its new name."""
    if not os.path.lexists(path):
        return None
    names = (path.with_name(f"{path.name}.before-hublock{number or ''}") for number in itertools.count())
    aside = next(name for name in names if not os.path.lexists(name))
    path.rename(aside)
    return aside.name


def _put_tree(tree: StoredTree, target: Path) -> str | None:
    """Copy a tree of the store; return the name of what stood there, which is kept."""
    if _is_copy(tree, target):
        return None
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        scratch.mkdir()
        for entry in tree.listing.entries:
            _copy_entry(tree.root / entry.path, scratch / "new" / entry.path, entry)
        if _is_copy(tree, target, but_for_bytecode=True):
            target.rename(scratch / "old")
        aside = _set_aside(target)
        (scratch / "new").rename(target)
    finally:
        remove(scratch)
    return aside


def _copy_entry(source: Path, target: Path, entry: Entry) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.mode == LINK:
        target.symlink_to(os.readlink(source))
        return
    shutil.copyfile(source, target)
    if entry.mode == EXECUTABLE:
        target.chmod(target.stat().st_mode | 0o111)


def _is_copy(tree: StoredTree, folder: Path, *, but_for_bytecode: bool = False) -> bool:
    """Tell whether ``folder`` holds exactly the files of ``tree``; bytecode, which torch.hub would run, is none."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    if but_for_bytecode:
        found = {name for name in found if not name.endswith(".pyc")}
    if found != set(tree.listing.by_path):
        return False
    return all(_content(folder / name) == _content(tree.root / name) for name in found)


def _content(path: Path) -> bytes:
    return os.fsencode(os.readlink(path)) + b"\0" if path.is_symlink() else path.read_bytes()


def _trust(listed: Path, names: Iterable[str]) -> None:
    """Add to the list of repositories that torch.hub does not ask about; what it holds is never written again."""
    known = listed.read_bytes() if listed.exists() else b""
    new = [name for name in dict.fromkeys(names) if name.encode() not in known.splitlines()]
    if new or not listed.exists():
        with listed.open("ab") as file:
            ended = known[-1:] in (b"", b"\n")
            file.write(("" if ended else "\n").encode() + "".join(f"{name}\n" for name in new).encode())
