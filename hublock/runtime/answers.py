"""How a question of foreign code is answered: from the lock, or in a trace child by asking the parent."""

import hashlib
import mmap
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Protocol

from hublock.core.cached import cached
from hublock.core.digest import Digest
from hublock.core.inventory import hugging_face_file, hugging_face_folder
from hublock.core.lockfile import HuggingFaceFile, Input, Lock, Model, Pickle, Repo, Weights
from hublock.core.reference import Reference
from hublock.errors import DigestMismatch, HublockError, InvalidReference, OfflineError, UnlockedDownload
from hublock.runtime.forksafe import ForkSafeLock
from hublock.runtime.repository import Repository
from hublock.runtime.strict.placing import writable_copy

if TYPE_CHECKING:
    from hublock.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file whose bytes were checked against its digest."""

    path: Path
    """Where the bytes are; nobody but its owner may write there."""
    digest: Digest
    size: int
    """In bytes."""
    pickle: Pickle


class Answers(Protocol):
    """What foreign code may have; every method may be called from several threads at once.

    A question that has no answer raises UnlockedDownload; bytes that are not there or not right raise OfflineError,
    TransferError or an IntegrityError. All of these end the load, also when foreign code swallows them.
    """

    def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
        """Return the file at ``url``; ``hash_prefix`` is what foreign code wants its sha256 to begin with."""

    def repo(self, reference: str) -> Repository:
        """Return the verified tree that a nested ``torch.hub.load(reference, …)`` means."""

    def reply(self, method: str, url: str) -> tuple[int, bytes] | None:
        """Return status and body of a small metadata answer; None if ``url`` is a file, which ``fetch`` answers.

        Asked for every GET and HEAD of an HTTP library, and as HEAD before each Hugging Face file, where 404 tells that
        an optional file is absent.
        """

    def hf(self, repo: str, repo_type: str, revision: str, file: str) -> tuple[str, File]:
        """Return the commit and one file of a Hugging Face repository; ``repo_type`` is model, dataset or space."""

    def hf_files(self, repo: str, repo_type: str, revision: str) -> tuple[str, tuple[str, ...]]:
        """Return the commit and the names of the files of a Hugging Face repository."""

    def input(self, path: Path) -> File | None:
        """Return the file at ``path`` with its verdict; None if nobody handed it in and it was not fetched either."""

    def pickle_of(self, repo: str, path: str) -> Pickle | None:
        """Return the verdict on the checkpoint ``path`` in the tree of the repository with the id ``repo``."""


class LockedAnswers:
    """Answers from a lock: whatever the locked models of one entry point may fetch, and nothing else."""

    def __init__(self, lock: Lock, repo: Repo, models: Sequence[Model], store: "Store") -> None:
        """Answer for ``models`` of ``repo``, with bytes from ``store``."""
        self._lock = lock
        self._repo = repo
        self._models = tuple(models)
        self._store = store

    def prefetch(self) -> None:
        """Begin to hash what the models fetch, in a thread of its own; what is absent is left for later to report."""
        digests = list(self._by_digest)
        threading.Thread(target=self._hash_all, args=(digests,), name="hublock-hash", daemon=True).start()

    def check_sizes(self) -> None:
        """Look at the length of what is stored; an absent file is left for later to report, it may not be asked for.

        Raises:
            DigestMismatch: a file is truncated or has grown.
        """
        for digest, (size, _) in self._by_digest.items():
            path = self._store.blob(digest)
            if path is not None and path.stat().st_size != size:
                raise DigestMismatch(f"{path} has {path.stat().st_size} bytes, not {size}", hint="hublock sync")

    def _hash_all(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            path = self._store.blob(digest)
            if path is not None:
                with suppress(OSError):
                    sha256_of(path)

    def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
        """Return the locked file at ``url``.

        Raises:
            UnlockedDownload: the lock has no such URL for these models.
            OfflineError: the file is not in the store.
            DigestMismatch: the stored bytes, or ``hash_prefix``, are not those of the lock.
        """
        for weights in (weights for model in self._models for weights in model.weights):
            if weights.url == url:
                check_prefix(url, weights.digest, hash_prefix)
                return self._file(url, weights.digest, weights.size, weights.pickle)
        raise self._unlocked(url)

    def repo(self, reference: str) -> Repository:
        """Return the tree of a nested repository.

        Raises:
            UnlockedDownload: none of these models loads it.
            TreeMismatch: the stored tree is not the locked one.
        """
        wanted = {_key(text) for text in (self._repo.id, *(name for model in self._models for name in model.repos))}
        if _key(reference) not in wanted:
            raise self._unlocked(reference)
        repo = self._lock.repo(reference)
        if repo is None:
            raise UnlockedDownload(f"the lock has lost {reference}, which {self._repo.id} loads", hint="hublock lock")
        return verified(repo, self._lock, self._store)

    def reply(self, method: str, url: str) -> tuple[int, bytes] | None:
        """Return the locked answer to ``method url``; None if the lock has none."""
        for reply in (reply for model in self._models for reply in model.replies):
            if (reply.method, reply.url) == (method, url):
                return reply.status, reply.body.encode()
        return None

    def hf(self, repo: str, repo_type: str, revision: str, file: str) -> tuple[str, File]:
        """Return commit and bytes of a locked Hugging Face file; raises as ``fetch`` does."""
        for locked in self._hugging_face(repo, repo_type, revision):
            if locked.file == file:
                what = f"{file} of {repo} at Hugging Face"
                return locked.commit, self._file(what, locked.digest, locked.size, locked.pickle)
        raise self._unlocked(hugging_face_file(repo, repo_type, revision, file))

    def hf_files(self, repo: str, repo_type: str, revision: str) -> tuple[str, tuple[str, ...]]:
        """Return the commit and the locked file names of a Hugging Face repository.

        Raises:
            UnlockedDownload: the lock has no file of it.
        """
        locked = list(self._hugging_face(repo, repo_type, revision))
        if not locked:
            raise self._unlocked(f"{hugging_face_folder(repo, repo_type)}/tree/{revision}")
        return locked[0].commit, tuple(sorted({file.file for file in locked}))

    def input(self, path: Path) -> File | None:
        """Return the file at ``path`` if the lock names its bytes: as an input, or as something these models fetch."""
        sizes = {size for size, _ in self._by_digest.values()}
        if path.stat().st_size not in sizes:
            return None
        digest = sha256_now(path)
        if digest not in self._by_digest:
            return None
        size, pickle = self._by_digest[digest]
        return File(path=path, digest=digest, size=size, pickle=pickle)

    def pickle_of(self, repo: str, path: str) -> Pickle | None:
        """Return the locked verdict on a checkpoint in a tree; None if the lock lists no such checkpoint."""
        locked = self._lock.repo(repo)
        verdicts = {weights.path: weights.pickle for weights in locked.tree_weights} if locked else {}
        return verdicts.get(path)

    def _hugging_face(self, repo: str, repo_type: str, revision: str) -> Iterator[HuggingFaceFile]:
        for file in (file for model in self._models for file in model.hf):
            # a file taken at the branch may be asked for again at the commit that answered
            if (file.repo, file.type) == (repo, repo_type) and revision in (file.revision, file.commit):
                yield file

    @cached
    def _by_digest(self) -> dict[Digest, tuple[int, Pickle]]:
        files: list[Weights | HuggingFaceFile | Input] = []
        for model in self._models:
            files += [*model.weights, *model.hf, *model.inputs]
        return {file.digest: (file.size, file.pickle) for file in files}

    def _file(self, what: str, digest: Digest, size: int, pickle: Pickle) -> File:
        path = self._store.blob(digest)
        if path is None:
            raise OfflineError(f"{what} is locked but not in the store", hint="hublock sync")
        if path.stat().st_size != size or sha256_of(path) != digest:
            raise DigestMismatch(f"the stored bytes of {what} are not {digest}", hint="hublock sync")
        return File(path=path, digest=digest, size=size, pickle=pickle)

    def _unlocked(self, what: str) -> HublockError:
        entrypoints = " ".join(sorted({model.entrypoint for model in self._models})) or "ENTRYPOINT"
        names = [given.name for model in self._models for given in model.inputs]
        missed = [name for name in names if name.rpartition("/")[2] == what.rpartition("/")[2]]
        shown = without_login(what)
        locked = self._models[0].name if len(self._models) == 1 else "NAME"
        hint = (
            f"hublock add {quote(self._repo.id)} {entrypoints} with the arguments of this call; "
            f"where those are locked, hublock lock --retrace {locked} adds what is asked for here"
        )
        if missed:
            hint = f"run it from the folder that holds the input {missed[0]}"
        elif not self._repo.commit and "://" in shown:
            # the project itself, which no repository stands for
            hint = f"hublock add --url {quote(shown)} --name NAME"
        whose = f" for {entrypoints}" if self._repo.commit else ""
        return UnlockedDownload(f"{self._repo.id} asks for {shown}, which the lock does not list{whose}", hint=hint)


def verified(repo: Repo, lock: Lock, store: "Store") -> Repository:
    """Return the tree of ``repo``, every byte of it compared with the lock; a copy of it if its code writes there.

    Raises:
        OfflineError: the tree is not in the store.
        TreeMismatch: a file was changed, added or removed.
    """
    try:
        tree = store.check_tree(repo.digest)
    except OfflineError:
        raise OfflineError(f"the tree of {repo.id} is not in the store", hint="hublock sync") from None
    root = writable_copy(tree.root) if lock.is_written(repo) else tree.root
    return Repository(id=repo.id, digest=repo.digest, root=root, listing=tree.listing)


def check_prefix(url: str, digest: Digest, prefix: str | None) -> None:
    """Compare a digest with what foreign code wants it to begin with.

    Raises:
        DigestMismatch: it begins otherwise.
    """
    if prefix and not digest.hex.startswith(prefix):
        raise DigestMismatch(
            f'invalid hash value for {url} (expected "{prefix}", got "{digest.hex}")',
            hint="ask its author which file that name stands for, or take another ref of the repository",
        )


def without_login(url: str) -> str:
    """Return ``url`` as it may be shown: without user name and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _key(reference: str) -> str:
    try:
        return Reference.parse(reference).key
    except InvalidReference:
        return reference


def forget_checked() -> None:
    """Hash every file again from now on."""
    with _hashed_lock:
        _hashed.clear()


_Stamp = tuple[int, int, int, int, int]
_hashed: dict[_Stamp, "Future[Digest]"] = {}
_hashed_lock = ForkSafeLock()


def _forget_unfinished() -> None:
    """A forked child has no thread that would finish what its parent was hashing."""
    for stamp in [stamp for stamp, future in _hashed.items() if not future.done()]:
        del _hashed[stamp]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_unfinished)


def sha256_of(path: Path) -> Digest:
    """Hash a file, once per process while its inode, size and times stay; threads that ask together share the work.

    The time of change is among them: whoever writes may set the other one back, but not this one.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return _once(stamp, lambda: _hash(file.fileno(), status.st_size))


def sha256_now(path: Path) -> Digest:
    """Hash a file whatever was known of it: one that others may write has no stamp that could be trusted.

    Nor is it mapped: who cut it short meanwhile would end this process with SIGBUS.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())


def _once(stamp: _Stamp, compute: Callable[[], Digest]) -> Digest:
    with _hashed_lock:
        future = _hashed.get(stamp)
        if mine := future is None:
            future = _hashed[stamp] = Future()
    assert future is not None
    if mine:
        try:
            future.set_result(compute())
        except BaseException as error:  # noqa: BLE001 - whoever waits for this hash gets the error too
            with _hashed_lock:
                _hashed.pop(stamp, None)
            future.set_exception(error)
    return future.result()


def _hash(descriptor: int, size: int) -> Digest:
    if size == 0:
        return Digest("sha256", hashlib.sha256().hexdigest())
    # one call over a map lets go of the GIL for its whole length
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as view:
        # or the system takes faults for random ones, and reads far less ahead than for a plain read
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            view.madvise(mmap.MADV_SEQUENTIAL)
        return Digest("sha256", hashlib.sha256(view).hexdigest())
