"""A repository somewhere: which commit a ref names, and the proven files of a commit.

Nothing a host says is believed that can be computed: every object is known by the id of its bytes, from the commit
down to each file. What a host says of its refs is believed, for a ref is nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from hublock.core.digest import Digest
from hublock.core.lockfile import Submodule
from hublock.core.progress import Progress
from hublock.core.reference import Reference, is_commit
from hublock.core.tree import SourceFile
from hublock.errors import IntegrityError, RefNotFound, RemoteError, TransferError
from hublock.net.git.child import disk_wire, ssh_wire
from hublock.net.git.history import COMMITS_ONLY, History, TooLong, history, leading_ref
from hublock.net.git.hosts import git_url, moved
from hublock.net.git.objects import algorithm_of, find, parse_commit, read_tree
from hublock.net.git.pack import read_objects
from hublock.net.git.refs import ALLOW, HEADS, OWN, Named, choose, missing, own, prefixes, ranked
from hublock.net.git.smart import HttpWire
from hublock.net.git.wire import Advertised, Extent, Wire
from hublock.net.git.worktree import find_repository, is_dirty
from hublock.net.routes import Route, passed_over
from hublock.net.transport import HttpTransport
from hublock.store.disk import passing_file

T = TypeVar("T")
_SILENT = Progress()


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """The commit that a ref names."""

    ref: str
    """The full name of the branch or tag that led to the commit or proves it; the commit's id if none does."""
    commit: str
    url: str
    """The repository's address after redirects."""
    moved: Reference | None = None
    """How the repository is called by now, if the host redirects from the name that was asked for."""
    warning: str | None = None
    """What the user should know: a new name, an ambiguous ref, uncommitted changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The source at one commit, proven against the commit's id."""

    commit: str
    tree: Digest
    """The commit's own tree id: ``git-sha1``, or ``git-sha256`` in a repository of that format."""
    committed: datetime
    files: Sequence[SourceFile]
    submodules: tuple[Submodule, ...]


class Remote(Protocol):
    """One repository, wherever it is."""

    def refs(self) -> Mapping[str, str]:
        """Return the branches and tags: full name -> commit.

        Raises:
            RepositoryNotFound: there is no such repository, or it is not shown to us.
            TransferError: the host could not be reached.
        """
        ...

    def resolve(self, ref: str | None, *, allow_unreachable: bool = False, nested: bool = False) -> Resolved:
        """Return the commit that ``ref`` names; None is the default branch.

        A whole commit id must be reachable from a branch or tag, unless ``allow_unreachable``. A name that is a branch
        and a tag at two commits is an error, unless a repository asks for it (``nested``).

        Raises:
            RepositoryNotFound: there is no such repository, or it is not shown to us.
            RefNotFound: there is no such ref, or the commit is not the repository's own.
            InputError: the name is ambiguous.
            TransferError: the host could not be reached.
        """
        ...

    def fetch(self, commit: str, *, progress: Progress = _SILENT) -> Snapshot:
        """Return the files of ``commit``, every object of which was hashed.

        Raises:
            RefNotFound: the host has no such commit, or it is none.
            TransferError: the host could not be reached, refuses, or sent something damaged.
            TreeMismatch: the host sent other objects than the commit is made of.
            UnsafeArchive: the commit holds what must not be unpacked.
        """
        ...

    def history(self, commit: str, since: str) -> History:
        """Say how ``commit`` stands to ``since``, an older one: whether it follows from it, and when both were made.

        Raises:
            TransferError: the host could not be reached, or has no such ``commit``.
        """
        ...


def open_remote(reference: Reference, transport: HttpTransport, *, base: Path, progress: Progress = _SILENT) -> Remote:
    """Return the repository that ``reference`` names; nothing is asked yet.

    ``base`` is the folder that local paths are relative to; ``progress`` is told of mirrors that failed.

    Raises:
        RepositoryNotFound: a local path leads to no git repository.
    """
    name = reference.location
    if reference.kind == "local":
        return _local(reference, base / Path(name).expanduser())
    url = git_url(reference)
    if url.startswith("file:"):
        return _local(reference, Path(url2pathname(urlsplit(url).path)))
    if url.startswith("ssh:"):
        return _GitRemote(reference, ssh_wire(name, url))
    ways = [
        (route, _GitRemote(reference, HttpWire(name, url, transport, number)))
        for number, route in enumerate(transport.routes(url))
    ]
    return _Mirrored(ways, progress) if len(ways) > 1 else ways[0][1]


def _local(reference: Reference, path: Path) -> "_GitRemote":
    folder = find_repository(reference.location, path)
    return _GitRemote(reference, disk_wire(reference.location, folder), dirty=lambda: is_dirty(folder))


class _GitRemote:
    def __init__(self, reference: Reference, wire: Wire, *, dirty: Callable[[], bool] = lambda: False) -> None:
        self._reference, self._name, self._wire, self._dirty = reference, reference.location, wire, dirty

    def refs(self) -> Mapping[str, str]:
        return own(self._wire.advertise(OWN).refs)

    def resolve(self, ref: str | None, *, allow_unreachable: bool = False, nested: bool = False) -> Resolved:
        told = self._wire.advertise(prefixes(ref))
        if ref is None:
            named = self._default(told, allow_unreachable)
        elif is_commit(ref):
            named = self._whole(ref.lower(), told, allow_unreachable)
        else:
            chosen = choose(self._name, ref, told, allow_unreachable=allow_unreachable, nested=nested)
            if chosen is None:
                raise missing(self._name, ref, self.refs())
            named = chosen
        new = moved(self._reference.at(ref), told.url)
        return Resolved(
            ref=named.ref, commit=named.commit, url=told.url, moved=new, warning=self._warning(named, new, ref)
        )

    def _warning(self, named: Named, new: Reference | None, ref: str | None) -> str | None:
        warnings = [named.warning]
        if new is not None:
            warnings.append(f"{self._name} is called {new.location} by now: write that, for the old name can be taken")
        if self._name.startswith("git+file:"):
            warnings.append(f"{self._name} names a folder of this machine alone; a path such as ./repo may be shared")
        if ref is None and self._dirty():
            warnings.append(f"{self._name} has uncommitted changes, which are not part of commit {named.commit[:12]}")
        return "; ".join(filter(None, warnings)) or None

    def _default(self, told: Advertised, allow_unreachable: bool) -> Named:
        if told.commit is None:
            raise RefNotFound(f"{self._name} has no default branch with a commit", hint="name a branch, or push one")
        if told.head is not None and told.head.startswith(HEADS):
            return Named(ref=told.head, commit=told.commit)
        return self._whole(told.commit, self._wire.advertise(prefixes(told.commit)), allow_unreachable)

    def _whole(self, commit: str, told: Advertised, allow_unreachable: bool) -> Named:
        """Find the branch or tag that proves a commit to be the repository's own."""
        digits = 40 if told.algorithm == "sha1" else 64
        if len(commit) != digits:
            raise RefNotFound(
                f"{self._name} has no commit {commit}: its commit ids have {digits} digits", hint="check the commit id"
            )
        tips = [ref for ref, tip in own(told.refs).items() if tip == commit]
        ref = ranked(tips, told.head)[0] if tips else None
        reason = None
        if ref is None and told.filters:
            try:
                ref = leading_ref(self._wire, told, commit)
            except TooLong as error:
                reason = f"whether {commit} is a commit of {self._name} cannot be proven: {error.message}"
        elif ref is None:
            reason = f"the host of {self._name} cannot show a history alone, so {commit} cannot be proven to be its own"
        if ref is None and not allow_unreachable:
            raise RefNotFound(reason, hint=ALLOW) if reason else self._stranger(commit)
        named_so = [full for full in own(told.refs) if full.partition("/")[2].partition("/")[2].lower() == commit]
        warning = f"{named_so[0]} is called like a commit id; the commit is taken" if named_so else None
        return Named(ref=ref or commit, commit=commit, warning=warning)

    def _stranger(self, commit: str) -> RefNotFound:
        """Say why no branch or tag leads to ``commit``."""
        with passing_file() as pack:
            try:
                self._wire.fetch([commit], pack, Extent(depth=1, filter=COMMITS_ONLY))
            except TransferError:
                return RefNotFound(f"{self._name} has no commit {commit}", hint="check the commit id")
        return RefNotFound(
            f"no branch or tag of {self._name} leads to {commit}, though its host serves it: "
            "it is of a fork or a pull request, or its branch was rewritten",
            hint=ALLOW,
        )

    def fetch(self, commit: str, *, progress: Progress = _SILENT) -> Snapshot:
        algorithm = algorithm_of(commit)
        with passing_file() as pack, progress.task(f"fetching {self._name}") as task:
            try:
                self._wire.fetch([commit], pack, Extent(depth=1, task=task))
            except TransferError as error:
                if "not our ref" not in error.message:
                    raise
                raise RefNotFound(
                    f"{self._name} has no commit {commit}, or no longer",
                    hint="check the commit id",
                ) from None
            objects = {identity: (kind, data) for identity, kind, data in read_objects(pack, algorithm)}
        kind, _ = objects.get(commit, ("commit", b""))
        if kind != "commit":
            raise RefNotFound(
                f"{commit} of {self._name} is a {kind}, not a commit", hint="name a branch, or a tag of a commit"
            )
        head = parse_commit(commit, find(objects, commit, "commit", "the commit itself"))
        files, submodules = read_tree(objects, head.tree)
        return Snapshot(
            commit=commit,
            tree=Digest(f"git-{algorithm}", head.tree),
            committed=head.committed,
            files=files,
            submodules=submodules,
        )

    def history(self, commit: str, since: str) -> History:
        if not self._wire.advertise(("HEAD",)).filters:
            return History(descends=True if commit == since else None)
        return history(self._wire, commit, since)


class _Mirrored:
    """A repository with mirrors: what one cannot answer, or prove, is asked of the next, and at last of the origin."""

    def __init__(self, ways: Sequence[tuple[Route, Remote]], progress: Progress) -> None:
        self._ways, self._progress = list(ways), progress

    def refs(self) -> Mapping[str, str]:
        return self._ask(lambda remote: remote.refs())

    def resolve(self, ref: str | None, *, allow_unreachable: bool = False, nested: bool = False) -> Resolved:
        return self._ask(lambda remote: remote.resolve(ref, allow_unreachable=allow_unreachable, nested=nested))

    def fetch(self, commit: str, *, progress: Progress = _SILENT) -> Snapshot:
        return self._ask(lambda remote: remote.fetch(commit, progress=progress))

    def history(self, commit: str, since: str) -> History:
        return self._ask(lambda remote: remote.history(commit, since))

    def _ask(self, question: Callable[[Remote], T]) -> T:
        while len(self._ways) > 1:
            try:
                return question(self._ways[0][1])
            except (RemoteError, IntegrityError) as error:
                route, _ = self._ways.pop(0)
                self._progress.warn(passed_over(route, self._ways[0][0], error.message))
        return question(self._ways[0][1])
