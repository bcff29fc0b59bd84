"""The scope of a load: who is foreign code right now, what it may ask, and what it was refused.

A scope reaches as far as the load does: its context (tasks, nested calls), the threads and pool jobs started inside,
and, after the load has returned, what is called by a module that carries the repository's mark. Other threads and the
user's own code are outside.
"""

import os
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from hublock.core.digest import Digest
from hublock.errors import HublockError, UnlockedDownload
from hublock.runtime.answers import Answers, File
from hublock.runtime.repository import Repository, namespace
from hublock.runtime.strict.frames import job, level_of_caller, remember_tree, responsible
from hublock.runtime.strict.notes import Ancestor, Told, ancestors, write_down, written_down
from hublock.runtime.strict.refusals import Refusal, ever_given, keep, left_behind, origin, unlocked

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class Scope:
    """One load: who answers, where its private hub folder is, what it has been given and refused."""

    answers: Answers
    folder: Path
    """A private folder, empty at first, that lives as long as the process."""
    hub_dir: Path
    """What ``torch.hub.get_dir()`` returns inside, until the code itself calls ``set_dir``."""
    private_hub: Path
    """What ``hub_dir`` is at first."""
    owner: str = "this model"
    """The repository and entry point, for messages."""
    cpu_only: bool = False
    """Give ``torch.load`` ``map_location="cpu"`` where the code passes none."""
    mmap: bool = False
    """Map checkpoints of the store into memory where their format allows it."""
    own_folder: Path | None = None
    """A folder of the user's own, whose files are taken as they are."""
    repositories: list[Repository] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """The namespaces of its repositories, the first one's first."""
    refusals: list[Refusal] = field(default_factory=list)
    process: int = field(default_factory=os.getpid)
    listens: bool = True
    """Whether it takes note of what is refused in this process, if it is of another one."""
    heard: int = 0
    """How much of what processes have written down it knows, in bytes."""
    by_path: dict[str, File] = field(default_factory=dict)
    by_digest: dict[Digest, File] = field(default_factory=dict)
    given_elsewhere: set[Digest] = field(default_factory=set)
    """Of the files that processes were given which it has started."""
    saved: set[Digest] = field(default_factory=set)
    """What the code itself wrote with ``torch.save``."""
    answered: set[str] = field(default_factory=set)
    """The addresses of the files that it was given."""
    read: set[str] = field(default_factory=set)
    """Files that were opened, to be read as others have left them, while it loaded."""
    written: set[str] = field(default_factory=set)
    """Files that it has made, or emptied to write them."""
    told: set[str] = field(default_factory=set)
    """Of them, those that were written down for the load that has started this process."""
    tolerated: Container[str] = ()
    """What may be refused without a word."""
    argv: list[str] = field(default_factory=lambda: [""])
    """Its ``sys.argv``."""
    packages: dict[tuple[str, str], str] = field(default_factory=dict)
    """Below which package this load finds the modules of a repository, by its namespace and the call of it."""
    former: set[str] = field(default_factory=set)
    """The packages of earlier loads of the same entry point, whose models it answers now."""
    over: bool = False
    """Whether the load has ended."""
    disturbed: bool = False
    """Code of modules that it shares was refused something for others, or put folders on their ``sys.path``."""
    alone: bool = False
    """Whether it shall share no modules with other loads."""
    as_locked: bool = True
    """Whether its arguments are those of a locked call; else what the locked calls could do without, it may need."""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make this scope the one of the current context."""
        token = current_scope.set(self)
        try:
            yield
        finally:
            current_scope.reset(token)

    @contextmanager
    def followed(self, libraries: tuple[str, ...], *, in_library: bool = False) -> Iterator[None]:
        """Be the scope of a thread or job: the user's own code is outside once the load has returned.

        ``libraries`` have handed it on, and are refused what it is; ``in_library`` if they started the thread.
        """
        token, before = current_scope.set(Following(self, in_library)), job.libraries
        job.libraries = libraries
        try:
            yield
        finally:
            job.libraries = before
            current_scope.reset(token)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Be the scope of a load that has not returned yet."""
        self.heard = max(self.heard, heard_by_all.get(self.as_ancestor.notes, 0))
        for told in self._news():
            # what was refused before, as at forward time, is not its own
            self._take(replace(told, refusal=None))
        self.over = False
        under_way.append(self)
        try:
            yield
        finally:
            # before it is no longer under way, or what it has heard looks late
            if self.heard:
                ended[str(self.folder)] = self.heard
            # a forked child of a load within it may have forgotten it
            with suppress(ValueError):
                under_way.remove(self)

    @property
    def private(self) -> Path:
        """The folder that holds the private folders of all loads of this process."""
        return self.folder.parent

    @property
    def loading(self) -> bool:
        """Whether the load has not returned yet."""
        return self in under_way

    def adopt(self, repository: Repository) -> None:
        """Let the frames of ``repository`` belong to this scope, from now on and after the load."""
        if not repository.is_users_own:
            remember_tree(repository.root)
        # the models of an earlier load of the same entry point still have theirs
        self._answer_under(str(self.folder) if self.loading else self.owner, namespace(repository))
        if repository not in self.repositories:
            self.repositories.append(repository)
        if namespace(repository) not in self.names:
            self.names.append(namespace(repository))

    def end(self, *, kept: bool) -> None:
        """Take note that the load has ended, and whether its models are kept: they are asked for by their frames."""
        self.over = True
        for name in self.names:
            namespaces[name].pop(str(self.folder), None)
            if kept or self.owner not in namespaces[name]:
                self._answer_under(self.owner, name)

    def _answer_under(self, key: str, name: str) -> None:
        scopes = namespaces.setdefault(name, {})
        # the newest last
        if (last := scopes.pop(key, None)) is not None:
            self.former |= {*last.packages.values(), *last.former}
        scopes[key] = self

    def ask(self, what: str, question: Callable[[Answers], T], *, file: str = "") -> T:
        """Return the answer to ``question``, asked outside the scope; a refusal is remembered and raised.

        After the load, code of the repository may have what any of its loads may: it does not tell which it is of.

        Raises:
            HublockError: whatever the question was refused with.
        """
        try:
            with outside():
                answer = self._answer(question)
        except HublockError as error:
            self.remember(Refusal(what=what, error=error, file=file))
            raise
        if file and file not in self.answered:
            self.answered.add(file)
            self.tell(Told(answered=file))
        return answer

    def _answer(self, question: Callable[[Answers], T]) -> T:
        try:
            return question(self.answers)
        except UnlockedDownload:
            for other in () if self.loading else self._siblings():
                with suppress(UnlockedDownload):
                    return question(other.answers)
            raise

    def _siblings(self) -> list["Scope"]:
        scopes = [namespaces.get(name, {}) for name in self.names]
        return [other for found in scopes for other in list(found.values()) if other is not self]

    def remember(self, refusal: Refusal) -> None:
        """Remember a refusal; in a process that a load started, write it down for that load and later ones.

        After the load nobody looks at refusals any more, so one that the code may swallow is told at once.
        """
        # another model may need a file that this one can do without
        if refusal.file or not self._tolerates(refusal):
            refusal = replace(refusal, owner=self.owner, libraries=responsible())
            keep(refusal)
        if not self.over:
            self.refusals.append(refusal)
        if not self.loading:
            if refusal.file:
                spoilt.setdefault(refusal.file, set()).update(self.packages.values())
            if current_scope.get() is None:
                # a thread of the user's runs an earlier model: loads are none the worse with modules of their own
                for other in self.beside():
                    other.disturbed = True
            else:
                # a thread of the repository's that an earlier load has started may work for a later one
                mine = set(self.names)
                for other in [other for other in list(under_way) if mine & {name for name, _ in other.packages}]:
                    other.refusals.append(refusal)
        # a load within a program of another one may do without what that one needs
        if os.getpid() != self.process or not self.loading or not self._tolerates(refusal):
            self.tell(Told(refusal=refusal, written=self.untold()))
        # nor does a process know whether the load that it was forked by goes on
        is_told = not self.loading or os.getpid() != self.process
        # code of the user's own sees for itself what it is refused
        if is_told and (self.names or responsible()) and refusal.what not in self.tolerated:
            # a warning that is made an error would take the place of the refusal
            with suppress(Warning):
                message = f"{refusal.error.message}; what the model returns now may be wrong"
                warnings.warn(message, stacklevel=level_of_caller())

    def _tolerates(self, refusal: Refusal) -> bool:
        tolerable = isinstance(refusal.error, UnlockedDownload) and (self.as_locked or not refusal.file)
        return tolerable and refusal.what in self.tolerated

    def beside(self) -> "list[Scope]":
        """Return the other loads under way that share imported modules with this one."""
        mine = set(self.packages.values())
        return [other for other in list(under_way) if other is not self and mine & set(other.packages.values())]

    @property
    def as_ancestor(self) -> Ancestor:
        """What the processes that it starts know of it."""
        notes = self.private / "refused-in-processes"
        return Ancestor(notes=notes, load=str(self.folder), names=tuple(self.names))

    @property
    def is_after_load(self) -> bool:
        """Whether what is started now was not started by the load itself."""
        return not self.loading if PROCESS.after_load is None else PROCESS.after_load

    def tell(self, told: Told) -> None:
        """Write something down, in a process that a load started, for that load and later ones."""
        told = replace(
            told, by_program=PROCESS.program_of is not None, after_load=bool(PROCESS.program_of and PROCESS.after_load)
        )
        for known in {*ancestors(), *([self.as_ancestor] if self.listens and os.getpid() != self.process else [])}:
            with outside():
                write_down(told, known)

    def listen(self) -> None:
        """Take note of what processes have told since that it has started, or that work for it after the load that did.

        A process that a module keeps, as in a pool, tells the load that started it.
        """
        for told in self._news():
            self._take(told)

    def _news(self) -> list[Told]:
        own, news = self.as_ancestor, []
        found = written_down(own.notes, self.heard)
        current_loads = {str(other.folder) for other in list(under_way)}
        for note in found:
            self.heard, told = note.end, note.told
            if told.refusal is not None and not told.by_program:
                # what a library of a program keeps goes with that
                keep(told.refusal)
            is_late = note.load not in current_loads and note.end > ended.get(note.load, 0) and not told.after_load
            if note.load == own.load or (is_late and {name for name, _ in self.packages} & set(note.names)):
                news.append(told)
        heard_by_all[own.notes] = max(self.heard, heard_by_all.get(own.notes, 0))
        return news

    def _take(self, told: Told) -> None:
        self.refusals += filter(None, [told.refusal])
        self.written.update(told.written)
        self.read.difference_update(told.written)
        self.saved.update(filter(None, [told.saved]))
        self.answered.update(filter(None, [told.answered]))
        self.given_elsewhere.update(filter(None, [told.given]))
        ever_given.update(self.given_elsewhere)

    def wrote(self, file: str) -> None:
        """Remember a file that the code has made, or emptied to write it."""
        self.written.add(file)
        if self.refusals:
            self.tell(Told(written=self.untold()))

    def untold(self) -> tuple[str, ...]:
        """Return the files it has written that no note tells of yet, and take them for told."""
        files = tuple(sorted(self.written - self.told))
        self.told.update(files)
        return files

    def refuse(self, what: str, message: str) -> HublockError:
        """Remember a refusal of our own and return it, to be raised."""
        refusal = unlocked(what, message, self.owner)
        self.remember(refusal)
        return refusal.error

    def fetch(self, url: str, hash_prefix: str | None = None) -> File:
        """Return the file at ``url``; raises as ``Answers.fetch`` does."""
        return self.given(self.ask(origin(url), lambda answers: answers.fetch(url, hash_prefix=hash_prefix), file=url))

    def given(self, file: File) -> File:
        """Remember that the code has been given ``file``, so that it may load it."""
        self.by_path[os.path.realpath(file.path)] = file
        if file.digest not in self.by_digest:
            self.tell(Told(given=file.digest))
        self.by_digest[file.digest] = file
        ever_given.add(file.digest)
        return file

    def first_refusal(self) -> HublockError | None:
        """Return the first refusal that is not tolerated; only an unlocked download can be."""
        self.listen()
        found = [refusal for refusal in self.refusals if not self._tolerates(refusal)]
        if found:
            files = [refusal.file for refusal in found if refusal.file]
            left_behind.update(dict.fromkeys(map(os.path.realpath, self.written), files))
        return found[0].error if found else None


@dataclass(frozen=True, slots=True)
class Following:
    """In a thread or job that a scope has started."""

    scope: Scope
    in_library: bool
    """Whether a library has, which may keep the thread, and give it jobs of others later."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """In a process that a load has started anew: its frames say less, as all that runs there is a job of the load."""

    scope: Scope


@dataclass(slots=True)
class _Process:
    program_of: Scope | None = None
    """The scope of which all is part that runs in this process, if it is a program that a load has started."""
    after_load: bool | None = None
    """Whether it was started when its load had ended; None if no load has started it."""


PROCESS = _Process()
OUTSIDE = object()
"""Our own work on behalf of foreign code."""
current_scope: ContextVar[Scope | Following | Inherited | object | None] = ContextVar("hublock_scope", default=None)
namespaces: dict[str, dict[str, Scope]] = {}
"""The scopes of every repository, by their owners; of loads under way, by their folders."""
under_way: list[Scope] = []
ended: dict[str, int] = {}
"""Up to where the notes of processes were known to a load as it ended."""
heard_by_all: dict[Path, int] = {}
"""Up to where some load of this process has read the notes of others: what libraries keep is known up to there."""
spoilt: dict[str, set[str]] = {}
"""The packages whose code was refused a file after the load: later loads that fetch it need other modules."""


@contextmanager
def outside() -> Iterator[None]:
    """Step out of any scope: for our own work on behalf of foreign code."""
    token = current_scope.set(OUTSIDE)
    try:
        yield
    finally:
        current_scope.reset(token)
