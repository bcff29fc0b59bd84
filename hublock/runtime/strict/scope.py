"""The scope of a load: who is foreign code right now, what it may ask, and what it was refused.

A scope reaches as far as the load does: its context (tasks, nested calls), the threads and pool jobs started inside,
and, after the load has returned, every frame of a module that carries the repository's mark. Other threads and the
user's own code are outside.
"""

import atexit
import itertools
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from hublock.core.digest import Digest
from hublock.errors import HublockError, UnlockedDownload
from hublock.runtime.answers import Answers, File
from hublock.runtime.repository import MARKER, Repository, namespace
from hublock.runtime.strict.swap import Function

if TYPE_CHECKING:
    from types import FrameType

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Something foreign code asked for and did not get."""

    what: str
    """``https://host`` or ``subprocess:name`` (which a lock may tolerate), or ``file:name``."""
    error: HublockError


@dataclass(eq=False, kw_only=True)
class Scope:
    """One load: who answers, where its private hub folder is, what it has been given and refused."""

    answers: Answers
    folder: Path
    """A private folder, empty at first, that lives as long as the process."""
    hub_dir: Path
    """What ``torch.hub.get_dir()`` returns inside, until the code itself calls ``set_dir``."""
    private_hub: Path
    """What ``hub_dir`` is at first: the only place where links into the store may stand."""
    owner: str = "this model"
    """The repository and entry point, for messages."""
    cpu_only: bool = False
    """Give ``torch.load`` ``map_location="cpu"`` where the code passes none."""
    mmap: bool = False
    """Map checkpoints of the store into memory where their format allows it."""
    own_folder: Path | None = None
    """A folder of the user's own, whose files are taken as they are."""
    repositories: list[Repository] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    by_path: dict[str, File] = field(default_factory=dict)
    by_digest: dict[Digest, File] = field(default_factory=dict)
    saved: set[Digest] = field(default_factory=set)
    """What the code itself wrote with ``torch.save``."""
    loading: bool = False
    environ: dict[str, str | None] = field(default_factory=dict)
    """The values of the environment variables that the code has changed, before it did."""
    cwd: str | None = None
    """The current directory before the code changed it."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make this scope the one of the current context."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def bound(self, function: Callable[..., T]) -> Callable[..., T]:
        """Return ``function`` such that it runs inside this scope, wherever it is called."""

        def inside(*args: Any, **kwargs: Any) -> T:
            with self.entered():
                return function(*args, **kwargs)

        return inside

    def adopt(self, repository: Repository) -> None:
        """Let the frames of ``repository`` belong to this scope, from now on and after the load."""
        _namespaces[namespace(repository)] = self
        if repository not in self.repositories:
            self.repositories.append(repository)

    def ask(self, what: str, question: Callable[[], T]) -> T:
        """Return the answer to ``question``, asked outside the scope; a refusal is remembered and raised.

        Raises:
            HublockError: whatever the question was refused with.
        """
        try:
            with outside():
                return question()
        except HublockError as error:
            self.refusals.append(Refusal(what=what, error=error))
            raise

    def refuse(self, what: str, message: str) -> UnlockedDownload:
        """Remember a refusal of our own and return it, to be raised."""
        error = UnlockedDownload(f"{self.owner} {message}", hint=self._hint(what))
        self.refusals.append(Refusal(what=what, error=error))
        return error

    def _hint(self, what: str) -> str:
        if what.startswith("file:"):
            return f"hublock add {self.owner} --input PATH, if this file is yours"
        return f"hublock add {self.owner} --tolerate {what}, if the model does not need it"

    def fetch(self, url: str, hash_prefix: str | None = None) -> File:
        """Return the file at ``url``; raises as ``Answers.fetch`` does."""
        return self.given(self.ask(origin(url), lambda: self.answers.fetch(url, hash_prefix=hash_prefix)))

    def given(self, file: File) -> File:
        """Remember that the code has been given ``file``, so that it may load it."""
        self.by_path[os.path.realpath(file.path)] = file
        self.by_digest[file.digest] = file
        return file

    def first_refusal(self, tolerated: Container[str]) -> HublockError | None:
        """Return the first refusal that is not ``tolerated``; only an unlocked download can be."""
        for refusal in self.refusals:
            if not (isinstance(refusal.error, UnlockedDownload) and refusal.what in tolerated):
                return refusal.error
        return None


class _Outside(Enum):
    OUTSIDE = "our own work on behalf of foreign code"


_current: ContextVar[Scope | _Outside | None] = ContextVar("hublock_scope", default=None)
_namespaces: dict[str, Scope] = {}


def current() -> Scope | None:
    """Return the scope of whoever calls, or None for the user's own code."""
    scope = _current.get()
    if scope is None:
        return _of_frames() if _namespaces else None
    return scope if isinstance(scope, Scope) else None


def _of_frames() -> Scope | None:
    marker = innermost_namespace()
    return _namespaces.get(marker) if marker is not None else None


def innermost_namespace() -> str | None:
    """Return the namespace of the repository whose code runs nearest to the caller."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        marker: str | None = frame.f_globals.get(MARKER)
        if marker is not None:
            return marker
        frame = frame.f_back
    return None


@contextmanager
def outside() -> Iterator[None]:
    """Step out of any scope: for our own work on behalf of foreign code."""
    token = _current.set(_Outside.OUTSIDE)
    try:
        yield
    finally:
        _current.reset(token)


_instead: dict[str, Function] = {}
"""What answers the user's own calls, by the name of the function; empty until a program asks for it."""


def dispatching(answer: Function, *, name: str | None = None) -> Callable[[Function], Function]:
    """Make a decision for ``swap``: inside a scope ``answer(scope, original, …)``, else the original.

    With a ``name``, the user's own calls can be answered too, see ``answer_users``.
    """

    def decide(original: Function) -> Function:
        def dispatch(*args: Any, **kwargs: Any) -> Any:
            scope = current()
            if scope is not None:
                return answer(scope, original, *args, **kwargs)
            instead = _instead.get(name) if name is not None else None
            return (instead or original)(*args, **kwargs)

        return dispatch

    return decide


def answer_users(functions: Mapping[str, Function]) -> dict[str, Function]:
    """Let ``functions`` answer the calls of the whole process that are in no scope; return what did before."""
    before = dict(_instead)
    _instead.clear()
    _instead.update(functions)
    return before


def origin(url: str) -> str:
    """Return ``scheme://host[:port]``, the form in which a lock tolerates a refusal; user names are left out."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def start_thread(scope: Scope, original: Function, thread: threading.Thread) -> None:
    """Start a thread from inside a scope: it runs inside too."""
    run = thread.run

    def inside() -> None:
        del thread.run  # the instance's attribute, so that nothing of us stays on it
        with scope.entered():
            run()

    thread.run = inside  # type: ignore[method-assign]
    original(thread)


def submit(scope: Scope, original: Function, pool: object, function: Function, /, *args: Any, **kwargs: Any) -> Any:
    """Hand a job to a thread pool from inside a scope: the job runs inside, a thread the pool adds for it does not."""
    with outside():
        return original(pool, scope.bound(function), *args, **kwargs)


_counter = itertools.count()
_private: dict[int, Path] = {}
_private_lock = threading.Lock()


def private_folder() -> Path:
    """Make a new empty folder that only this process uses; all of them are removed when it exits."""
    with _private_lock:
        process = os.getpid()
        root = _private.get(process)
        if root is None:
            root = _private[process] = Path(tempfile.mkdtemp(prefix="hublock-"))
            atexit.register(_remove, process, root)
    folder = root / str(next(_counter))
    folder.mkdir()
    return folder


def _remove(process: int, root: Path) -> None:
    # a forked child inherits the exit handlers, but not the folder
    if os.getpid() == process:
        shutil.rmtree(root, ignore_errors=True)
