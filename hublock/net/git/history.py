"""Whether a commit belongs to a repository: a walk over commits alone, each known by the id of its bytes.

A host keeps a repository and its forks in one place and serves a fork's commit under the parent's name, so that a
commit can be fetched proves nothing. What proves it is a chain of parents from a branch or tag down to it. The server
is told that we have the commit, so it sends only what lies above it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hublock.errors import RemoteError, TransferError, UnsafeArchive
from hublock.net.git.objects import Commit, algorithm_of, parse_commit
from hublock.net.git.pack import read_objects
from hublock.net.git.refs import own, ranked
from hublock.net.git.wire import Advertised, Extent, Wire
from hublock.store.disk import passing_file

MAX_HISTORY = 64 << 20
"""Bytes of commits: about 220,000 of them; the longest history of a hub repository takes 2 MB."""
COMMITS_ONLY = "tree:0"


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """How two commits of one repository stand to each other; what the host cannot show is None."""

    descends: bool | None = None
    """Whether the older one is in the history of the newer one."""
    commits: int | None = None
    """How many lead from the older to the newer one, if it descends."""
    committed: datetime | None = None
    """When the newer one was made."""
    before: datetime | None = None
    """When the older one was made."""


class TooLong(RemoteError):
    """A history is longer than the limit; callers say what that means."""


def leading_ref(wire: Wire, told: Advertised, commit: str) -> str | None:
    """Return the ref, the default branch if it can be, from which ``commit`` can be reached; None if there is none.

    Raises:
        TooLong: the history is too long to look.
        TransferError: the server could not be reached.
    """
    refs = ranked(own(told.refs), told.head)
    first = [ref for ref in refs if ref == told.head]
    for some in (first, [ref for ref in refs if ref not in first]):
        above = descendants(wire, [told.refs[ref] for ref in some], commit) if some else set()
        found = next((ref for ref in some if told.refs[ref] in above), None)
        if found is not None:
            return found
    return None


def descendants(wire: Wire, tips: Sequence[str], commit: str) -> set[str]:
    """Return ``commit`` and what descends from it, among the commits that lead to ``tips``.

    Raises:
        TooLong: the history is too long to look.
        TransferError: the server could not be reached.
    """
    children: dict[str, list[str]] = {}
    for identity, found in _commits_above(wire, tips, commit).items():
        for parent in found.parents:
            children.setdefault(parent, []).append(identity)
    above, ahead = {commit}, [commit]
    while ahead:
        for child in children.get(ahead.pop(), ()):
            if child not in above:
                above.add(child)
                ahead.append(child)
    return above


def history(wire: Wire, commit: str, since: str) -> History:
    """Return how ``commit`` stands to ``since``, an older one, on a server that can show commits alone.

    Raises:
        TransferError: the server could not be reached, or has no such ``commit``.
    """
    try:
        above = _commits_above(wire, [commit], since)
    except TooLong:
        return History()
    seen, ahead = {commit}, [commit]
    while ahead:
        parents = above[here].parents if (here := ahead.pop()) in above else ()
        ahead += [parent for parent in parents if parent not in seen]
        seen.update(parents)
    descends = since in seen
    return History(
        descends=descends,
        commits=len((seen - {since}) & above.keys()) if descends else None,
        committed=above[commit].committed if commit in above else _made(wire, commit),
        before=_made(wire, since),
    )


def _made(wire: Wire, commit: str) -> datetime | None:
    """Return when a commit was made; None if the server has lost it."""
    with passing_file() as pack:
        try:
            wire.fetch([commit], pack, Extent(depth=1, filter=COMMITS_ONLY))
            objects = list(read_objects(pack, algorithm_of(commit)))
        except TransferError:
            return None
    found = {name: data for name, kind, data in objects if kind == "commit"}
    return parse_commit(commit, found[commit]).committed if commit in found else None


def _commits_above(wire: Wire, tips: Sequence[str], commit: str) -> Mapping[str, Commit]:
    """Return every commit that leads to ``tips`` and not to ``commit``."""
    wants = list(dict.fromkeys(tips))
    with passing_file() as pack:
        try:
            wire.fetch(wants, pack, Extent(haves=[commit], filter=COMMITS_ONLY, limit=MAX_HISTORY))
        except UnsafeArchive:
            raise TooLong(f"the history takes more than {MAX_HISTORY >> 20} MiB") from None
        return {
            identity: parse_commit(identity, data)
            for identity, kind, data in read_objects(pack, algorithm_of(commit))
            if kind == "commit"
        }
