"""Whether a commit belongs to a repository: a walk over commits alone, each known by the id of its bytes.

A host keeps a repository and its forks in one place and serves a fork's commit under the parent's name, so that a
commit can be fetched proves nothing. What proves it is a chain of parents from a branch or tag down to it. The server
is told that we have the commit, so it sends only what lies above it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hublock.errors import RemoteError, UnsafeArchive
from hublock.net.objects import parse_commit
from hublock.net.pack import read_objects
from hublock.net.refs import own, ranked
from hublock.net.wire import Advertised, Plan, Wire

MAX_HISTORY = 64 << 20
"""Bytes of commits: about 220,000 of them; the longest history of a hub repository takes 2 MB."""
COMMITS_ONLY = "tree:0"


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
    for identity, parents in _commits_above(wire, tips, commit).items():
        for parent in parents:
            children.setdefault(parent, []).append(identity)
    above, ahead = {commit}, [commit]
    while ahead:
        for child in children.get(ahead.pop(), ()):
            if child not in above:
                above.add(child)
                ahead.append(child)
    return above


def _commits_above(wire: Wire, tips: Sequence[str], commit: str) -> Mapping[str, tuple[str, ...]]:
    """Return the parents of every commit that leads to ``tips`` and not to ``commit``."""
    wants = list(dict.fromkeys(tips))
    with tempfile.TemporaryDirectory(prefix="hublock-") as folder:
        pack = Path(folder) / "pack"
        try:
            wire.fetch(wants, pack, Plan(haves=[commit], filter=COMMITS_ONLY, limit=MAX_HISTORY))
        except UnsafeArchive:
            raise TooLong(f"the history takes more than {MAX_HISTORY >> 20} MiB") from None
        algorithm = "sha1" if len(commit) == 40 else "sha256"
        return {
            identity: parse_commit(identity, data).parents
            for identity, kind, data in read_objects(pack, algorithm)
            if kind == "commit"
        }
