"""Which ref a user means, told from what a server advertises. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hublock.core.nearest import nearest
from hublock.core.reference import is_commit
from hublock.errors import InputError, RefNotFound
from hublock.net.git.wire import Advertised

HEADS, TAGS = "refs/heads/", "refs/tags/"
OWN = (HEADS, TAGS)
"""What a repository's own people write; ``refs/pull/`` and the like hold what strangers send."""
ALLOW = "if you trust that commit, add it with --allow-unreachable"
_ABBREVIATED = re.compile(r"[0-9a-f]{4,63}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A full ref name and the commit it points to."""

    ref: str
    commit: str
    warning: str | None = None


def prefixes(ref: str | None) -> tuple[str, ...]:
    """Return what to ask a server for to learn what ``ref`` names."""
    if ref is None:
        return ("HEAD",)
    if is_commit(ref):
        return ("HEAD", *OWN)
    return ("HEAD", ref) if ref.startswith("refs/") else ("HEAD", HEADS + ref, TAGS + ref)


def own(refs: Mapping[str, str]) -> dict[str, str]:
    """Return the branches and tags among ``refs``."""
    return {ref: commit for ref, commit in refs.items() if ref.startswith(OWN)}


def short(ref: str) -> str:
    """Return a branch or tag as people call it."""
    return ref.removeprefix(HEADS).removeprefix(TAGS)


def ranked(refs: Iterable[str], head: str | None) -> list[str]:
    """Return ``refs`` by how well they stand for a commit: the default branch, branches, tags."""
    return sorted(refs, key=lambda ref: (ref != head, not ref.startswith(HEADS), ref))


def choose(name: str, ref: str, told: Advertised, *, allow_unreachable: bool, nested: bool) -> Named | None:
    """Return what ``ref``, a name, stands for in the repository ``name``; None if there is nothing of that name.

    A server matches prefixes, so only what is spelled exactly so counts.

    Raises:
        InputError: it is a branch and a tag at two commits, and nobody said which (``nested`` takes the branch, as
            torch.hub does).
        RefNotFound: it is a ref that other people than the repository's own may write.
    """
    if ref.startswith("refs/"):
        commit = told.refs.get(ref)
        if commit is not None and not ref.startswith(OWN) and not allow_unreachable:
            raise RefNotFound(f"{ref} is neither a branch nor a tag of {name}: strangers may write it", hint=ALLOW)
        return Named(ref=ref, commit=commit) if commit is not None else None
    branch, tag = told.refs.get(HEADS + ref), told.refs.get(TAGS + ref)
    if branch is None:
        return Named(ref=TAGS + ref, commit=tag) if tag is not None else None
    if tag is None or tag == branch:
        return Named(ref=HEADS + ref, commit=branch)
    if not nested:
        raise InputError(
            f"{ref} is both a branch and a tag of {name}, at two commits",
            hint=f"write {HEADS}{ref} or {TAGS}{ref} in its place",
        )
    warning = f"{ref} is both a branch and a tag of {name}, at two commits; the branch is taken, as torch.hub does"
    return Named(ref=HEADS + ref, commit=branch, warning=warning)


def missing(name: str, ref: str, refs: Mapping[str, str]) -> RefNotFound:
    """Return the error for a ``ref`` that is not among the branches and tags ``refs`` of ``name``."""
    if _ABBREVIATED.fullmatch(ref):
        whole = sorted({commit for commit in refs.values() if commit.startswith(ref.lower())})
        if whole or len(ref) >= 7:
            return RefNotFound(
                f"{name} has no branch or tag {ref}, and an abbreviated commit id could mean another commit tomorrow",
                hint=f"write all of it: {whole[0]}" if len(whole) == 1 else "write the whole commit id",
            )
    if ref.upper() == "HEAD":
        return RefNotFound(f"{name} has no branch or tag {ref}", hint="leave the ref out for the default branch")
    known = sorted(set(map(short, refs)))
    hint = f"it has {', '.join(known[:5])}" if known else "it has no branches and no tags"
    return RefNotFound(f"{name} has no branch or tag {ref}{nearest(short(ref), known)}", hint=hint)
