"""Talking to a git server: dulwich speaks the protocol, over our transport (smart) or a child process (child).

Only dulwich's plumbing is used: it speaks protocol v2 (gitprotocol-v2) and hands us the pack as it comes. What it
believes, follows and allocates is bounded here and in ``pack``.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from hublock.core.progress import Task
from hublock.errors import HublockError, TransferError, UnsafeArchive
from hublock.net.failures import printable
from hublock.net.git.pack import MAX_PACK
from hublock.store.disk import not_put_aside

if TYPE_CHECKING:
    from dulwich.client import GitClient

log = logging.getLogger(__name__)

MAX_TALK = 64 << 20
"""Bytes that a server may say in one conversation beside a pack; 50,000 refs take 3.3 MB, and ten times that memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advertised:
    """What a server says of its refs."""

    refs: Mapping[str, str]
    """Full name -> commit id, annotated tags peeled; without HEAD."""
    head: str | None
    """The full name of the branch HEAD points to; None if it is detached."""
    commit: str | None
    """What HEAD points to; None in an empty repository."""
    algorithm: str
    """``sha1`` or ``sha256``: the object format."""
    filters: bool
    """Whether the server can leave out trees and blobs."""
    url: str
    """The repository's address after redirects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much of a history a fetch brings."""

    haves: Sequence[str] = ()
    """Commits whose ancestors are left out."""
    depth: int | None = None
    filter: str | None = None
    """A filter-spec of git-rev-list(1), for servers that can (:attr:`Advertised.filters`)."""
    limit: int = MAX_PACK
    """Bytes after which the fetch is given up."""
    task: Task = field(default_factory=Task)


class Wire:
    """One repository on one server: what the kinds of server share is dulwich, held on a short line."""

    def __init__(self, name: str, client: "GitClient") -> None:
        """``name`` is how messages call the repository; ``client`` knows where it is."""
        self._name, self._client = name, client
        self._talked = 0

    def advertise(self, prefixes: Sequence[str]) -> Advertised:
        """Return the refs whose full names begin with one of ``prefixes`` (and perhaps others).

        Raises:
            RepositoryNotFound: there is no such repository, or it is not shown to us.
            TransferError: the server could not be reached, or refuses.
            UnsafeArchive: it has too many refs.
        """
        with self._told():
            listed = self._client.get_refs(b"", ref_prefix=[prefix.encode() for prefix in prefixes])
            refs = _peeled({bytes(name): bytes(value) for name, value in listed.refs.items() if value is not None})
            symrefs = {bytes(name): bytes(target) for name, target in listed.symrefs.items()}
            commit = refs.pop("HEAD", None)
            return Advertised(
                refs=refs,
                head=_text(symrefs[b"HEAD"]) if b"HEAD" in symrefs else None,
                commit=commit,
                algorithm=listed.object_format or "sha1",
                filters=offers_filter(self._greeted()),
                url=self._address(),
            )

    def fetch(self, wants: Sequence[str], into: BinaryIO, extent: Extent) -> None:
        """Write the pack that brings ``wants`` to the empty file ``into``.

        Raises:
            TransferError: the server refuses, has no such object, or the line broke.
            UnsafeArchive: the pack is too large, or the server says too much beside it.
        """
        wanted: Any = [want.encode() for want in wants]
        walker: Any = _Walker(extent.haves)

        def determine_wants(refs: object, depth: int | None = None) -> Any:
            del refs, depth
            return wanted

        with self._told():
            self._client.fetch_pack(
                b"",
                determine_wants,
                walker,
                self._spool(into, extent),
                progress=lambda text: log.debug("%s: %r", self._name, text),
                depth=extent.depth,
                ref_prefix=[b"HEAD"],
                filter_spec=extent.filter.encode() if extent.filter else None,
            )
        into.flush()

    def _greeted(self) -> bytes:
        """Return the server's capability advertisement."""
        raise NotImplementedError

    def _address(self) -> str:
        """Return the repository's address after redirects."""
        raise NotImplementedError

    def _finish(self) -> str:
        """Let go of what one conversation held, and return what the server said beside the protocol."""
        return ""

    def _failure(self, said: str) -> HublockError:
        """Return the error for what the server, or dulwich for it, ``said``."""
        return TransferError(f"{self._name}: git was refused or broke off: {said}")

    def _hear(self, amount: int) -> None:
        """Count bytes that came from the server: all but those of a pack are kept in memory.

        Raises:
            UnsafeArchive: it says too much.
        """
        self._talked += amount
        if self._talked > MAX_TALK:
            raise UnsafeArchive(f"the host of {self._name} sends more than {MAX_TALK} bytes beside its objects")

    def _spool(self, into: BinaryIO, extent: Extent) -> Callable[[bytes], int]:
        arrived = 0

        def take(data: bytes) -> int:
            nonlocal arrived
            arrived += len(data)
            self._talked -= len(data)
            if arrived > extent.limit:
                raise UnsafeArchive(f"the host sends a pack of more than {extent.limit} bytes")
            extent.task.advance(len(data))
            try:
                return into.write(data)
            except OSError as error:
                raise not_put_aside(error) from error

        return take

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn every failure of dulwich into a TransferError that names the repository."""
        self._talked = 0
        try:
            yield
        except (HublockError, MemoryError):
            raise
        except Exception as error:
            # a broken answer makes dulwich fail in a dozen ways, assertions among them
            said = self._finish() or f"{error}" or type(error).__name__
            raise self._failure(printable(said)) from error
        finally:
            self._finish()


class _Walker:
    """Tells dulwich which commits we have."""

    shallow: frozenset[bytes] = frozenset()

    def __init__(self, haves: Sequence[str]) -> None:
        self._haves = iter(haves)

    def __next__(self) -> bytes | None:
        have = next(self._haves, None)
        return have.encode() if have else None

    def ack(self, sha: bytes) -> None:
        """Ignore what the server claims to share: it proves nothing."""

    def nak(self) -> None:
        """Ignore it likewise."""


def _peeled(refs: Mapping[bytes, bytes]) -> dict[str, str]:
    """Replace every annotated tag by what it tags."""
    return {
        _text(name): refs.get(name + b"^{}", value).decode("ascii")
        for name, value in refs.items()
        if not name.endswith(b"^{}")
    }


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def offers_filter(greeting: bytes) -> bool:
    """Say whether a protocol v2 capability advertisement has ``filter`` among the features of fetch."""
    for line in greeting.split(b"\n"):
        name, equals, features = line[4:].partition(b"=")
        if name == b"fetch" and equals:
            return b"filter" in features.split(b" ")
    return False
