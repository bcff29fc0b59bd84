"""Where the hosts have gone since a repository was locked; nothing is changed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from hublock.actions.context import Context
from hublock.actions.pin import remote_of
from hublock.core.lockfile import Repo
from hublock.core.reference import Reference
from hublock.errors import HublockError
from hublock.net.crew import make_calls
from hublock.net.git.history import History
from hublock.net.git.refs import TAGS, short
from hublock.net.git.remote import Remote, Resolved
from hublock.net.stopping import Stop

Trend = Literal["same", "ahead", "unproven", "rewritten", "retagged", "precise"]
"""What became of a ref: it names the locked commit still; a descendant of it; a commit whose history the host cannot
show; a commit that does not descend from it; as a tag, or as a branch that took the name of one, any other commit.
``precise``: the user named the commit."""

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One repository, as it is locked and as its ref is now."""

    repo: Repo
    remote: Remote
    resolved: Resolved
    trend: Trend
    history: History
    """From the locked commit to the resolved one; where that does not descend, ``commits`` counts backwards."""

    @property
    def surprising(self) -> bool:
        """Whether somebody took back what they had published: a tag that moved, a branch without its own past."""
        return self.trend in ("rewritten", "retagged")

    @property
    def strayed(self) -> bool:
        """Whether the lock follows another ref than its reference does by now, to which ``update --precise`` led it."""
        return short(self.resolved.ref) != short(self.repo.ref)


def look(repo: Repo, context: Context, *, base: Path, precise: str | None = None) -> Move:
    """Ask the host of ``repo`` what its ref names now, or for the commit ``precise``.

    Raises:
        RepositoryNotFound: the repository is gone, or is not shown to us.
        RefNotFound: the ref or commit is gone.
        InputError: the name of the ref became ambiguous.
        TransferError: the host could not be reached.
    """
    reference = Reference.parse(repo.id)
    remote = remote_of(reference, context, base)
    nested = bool(repo.via) and not repo.models
    resolved = remote.resolve(
        precise or reference.ref, allow_unreachable=repo.allow_unreachable, nested=nested and precise is None
    )
    if resolved.commit == repo.commit:
        return Move(repo=repo, remote=remote, resolved=resolved, trend="same", history=History())
    history = remote.history(resolved.commit, repo.commit)
    if precise and history.descends is False:
        # a user may go back, if that is where the named commit lies
        back = remote.history(repo.commit, resolved.commit)
        history = replace(history, commits=back.commits) if back.descends else history
    was_tag = repo.ref == f"{TAGS}{reference.ref or ''}"
    trend = _trend(resolved, history, precise, was_tag=was_tag)
    return Move(repo=repo, remote=remote, resolved=resolved, trend=trend, history=history)


def _trend(resolved: Resolved, history: History, precise: str | None, *, was_tag: bool) -> Trend:
    if precise:
        return "precise"
    # a branch that took the name of a deleted tag is what a tag that moved is, whatever it descends from
    if was_tag or resolved.ref.startswith(TAGS):
        return "retagged"
    return {True: "ahead", False: "rewritten", None: "unproven"}[history.descends]  # type: ignore[return-value]


def at_once(do: Callable[[T], S], items: Iterable[T], context: Context) -> list[S | HublockError]:
    """Do the same with several things, some at a time, and return each result or failure in their order."""
    stop = Stop()

    def attempt(item: T) -> S | HublockError:
        with stop.ending(context.transport):
            try:
                return do(item)
            except HublockError as error:
                return error

    calls = [partial(attempt, item) for item in items]
    return make_calls(calls, most=context.settings.jobs, on_failure=stop.set)


def sure(results: Sequence[S | HublockError]) -> list[S]:
    """Return the results of :func:`at_once`.

    Raises:
        HublockError: the first failure among them.
    """
    for result in results:
        if isinstance(result, HublockError):
            raise result
    return [result for result in results if not isinstance(result, HublockError)]
