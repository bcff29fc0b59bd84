"""What is proven of a loaded model: its state, and that nothing stands in it for what is locked."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from shlex import quote
from urllib.parse import urlsplit

from hublock.core.digest import Digest
from hublock.core.lockfile import Model
from hublock.core.matching import Call
from hublock.errors import DigestMismatch, NotLocked, UnlockedDownload
from hublock.runtime.fingerprint import fingerprint
from hublock.runtime.strict.huggingface import address
from hublock.runtime.strict.reads import Kept
from hublock.runtime.strict.refusals import ever_given
from hublock.runtime.torchhub import Watched

Files = Mapping[Digest, str]
"""What a model fetches, and from where, as refusals name it."""


def check_state(result: object, call: Call) -> None:
    """Compare every parameter and buffer of a loaded model with the fingerprint in the lock.

    Raises:
        NotLocked: the lock has no fingerprint for this call: its arguments are not the locked ones, or the entry point
            initialises at random, or the result has no parameters.
        DigestMismatch: the fingerprint is another one.
    """
    match = call.match
    states = {model.state for model in call.alike if model.state}
    if call.alike and not states and fingerprint(result) is None:
        raise NotLocked(
            f"{match.repo.id} {match.entrypoint} has no state to compare: what it returns holds no parameters",
            hint='leave out --load, or verify="state"',
        )
    if call.alike and not states:
        name = quote(call.alike[0].name)
        # where one trace found it at random, a second one that does not brings no state back
        reason, hint = {
            "confirmed": ("it initialises at random", f"hublock remove {name}, then hublock add, if it does not"),
            "unconfirmed": ("it was not confirmed", f"hublock lock --retrace {name}"),
            "declared": ("its files are declared, it never ran", 'leave out --load, or verify="state"'),
        }[call.alike[0].traced]
        raise NotLocked(f"{match.repo.id} {match.entrypoint} is locked without a state: {reason}", hint=hint)
    if not states:
        raise NotLocked(
            f"the lock has no state for this call of {match.repo.id} {match.entrypoint}",
            hint=f"hublock add {quote(match.repo.id)} {quote(match.entrypoint)} with these arguments",
        )
    state = fingerprint(result)
    if state not in states:
        expected = " or ".join(sorted(map(str, states)))
        told = f"the state {state}" if state else "a state that cannot be told"
        raise DigestMismatch(
            f"{match.repo.id} {match.entrypoint} was loaded with {told}, not the locked {expected}",
            hint="hublock verify --deep",
        )


def check_fallback(call: Call, done: Watched) -> None:
    """Refuse what is not what was locked, and what may be the fallback of a load that was refused.

    A library may have kept it, in an ``lru_cache`` or a global, from which nobody can free it, or a file may hold it.

    Raises:
        UnlockedDownload: there is such a library, which its code names if it is a call with other arguments, or it has
            read such a file, and nothing proves that the model is right all the same; or it has not asked for a locked
            file, and its state is another one.
    """
    missed = _missed_by(call, done)
    kept, left = _kept(call, done, missed), _left(call, done, missed)
    if not kept and not left and not (call.is_locked and missed):
        return
    wrong = _state_error(done.result, call)
    if _is_cleared(wrong, call, done, missed, kept=kept, left=left):
        return
    reason, hint = _doubt(kept, left) or (_CHANGED, _ANEW)
    what = f"did not ask for {missed[0]}, which is locked" if missed else _MAY_HAVE
    raise UnlockedDownload(f"{call.match.repo.id} {call.match.entrypoint} {what}: {reason}", hint=hint) from wrong


def check_local(owner: str, done: Watched) -> None:
    """Refuse what may be the fallback of the same entry point of a folder of the user's own, which no lock proves.

    Raises:
        UnlockedDownload: it was refused something before by way of a library, or has read a file of a refused load.
    """
    kept = [item for item in done.beside.keepers(named=None) if item.by_same]
    doubt = _doubt(kept, list(done.beside.fallback_files()))
    if doubt is not None:
        reason, hint = doubt
        raise UnlockedDownload(f"{owner} {_MAY_HAVE}: {reason}", hint=hint)


_CHANGED = "it returned what it had kept from before, which has not the locked state, or has it no longer"
_MAY_HAVE = "may have taken a fallback"
_ANEW = "load it in a new process"


def _doubt(kept: Sequence[Kept], left: Sequence[str]) -> tuple[str, str] | None:
    """Return why a load may have taken a fallback, and what to do."""
    if kept:
        first = min(kept, key=lambda item: (not item.by_same, not item.file))
        what = first.file or "something"
        return f"{first.library} was refused {what} before and may have kept what it took instead", _ANEW
    if left:
        return f"it read {left[0]}, which a load that was refused has written", f"rm {quote(left[0])}"
    return None


def _missed_by(call: Call, done: Watched) -> list[str] | None:
    """Return the locked files that a call was not given; those of the user's own that have their bytes are as good.

    With other arguments than the locked ones, it may be like the model of which it has missed most; None if no model
    fetches anything that it could be like.
    """

    def missed(given: Container[Digest]) -> list[str] | None:
        if call.is_locked:
            return _missed(_files(call), given)
        return max(_each_missed(filter(None, _files(call)), given), key=len, default=None)

    return missed(done.given) and missed({*done.given, *filter(None, done.beside.users_files().values())})


def _kept(call: Call, done: Watched, missed: Sequence[str] | None) -> list[Kept]:
    """Return what libraries may have kept that this load may have got."""
    kept = done.beside.keepers(named=None if call.is_locked and missed else _names_in(call))
    if call.is_locked and not missed:
        # it was given all that is a file, and not the files of others
        return [item for item in kept if item.by_same or not item.file]
    return kept


def _names_in(call: Call) -> set[str]:
    """Return the names of modules that the arguments of a call may give to its code."""
    given = [*call.args, *(call.kwargs or {}).values()]
    texts = [value if isinstance(value, str) else str(getattr(value, "__module__", "")) for value in given]
    return {name for text in texts for name in re.findall(r"\w+", text)}


def _left(call: Call, done: Watched, missed: Sequence[str] | None) -> list[str]:
    """Return the files of refused loads that it has read; with other arguments, those like a file it may need."""
    return [
        path
        for path, refused in done.beside.fallback_files().items()
        if call.is_locked or _is_like(path, [*(missed or ()), *refused])
    ]


def _is_cleared(
    wrong: NotLocked | DigestMismatch | None,
    call: Call,
    done: Watched,
    missed: Sequence[str] | None,
    *,
    kept: Sequence[Kept],
    left: Sequence[str],
) -> bool:
    """Say whether a load is right in spite of what it has missed, or what may have been kept or left.

    ==============  ======================  ==========================================================================
    its state       its arguments           it passes
    ==============  ======================  ==========================================================================
    the locked one  the locked ones         but where a library kept something, and no load of the process was ever
                                            given some file of the model: labels, say, are no part of a state
    another         the locked ones         where it was given all that the model fetches, and nothing was kept or left
    none is locked  the locked ones         there too, and where nothing but other files of the user's may stand in
    none is locked  other ones              where it was given all that any model fetches, or what was refused were no
                                            files; but never where this entry point itself was refused something
    ==============  ======================  ==========================================================================
    """
    if wrong is None:
        return not kept or not _missed(_files(call), {*done.given, *ever_given})
    if isinstance(wrong, DigestMismatch):
        return False
    if call.is_locked:
        return not missed or not (kept or left)
    return not any(item.by_same for item in kept) and (missed == [] or not (left or any(item.file for item in kept)))


def _state_error(result: object, call: Call) -> NotLocked | DigestMismatch | None:
    try:
        check_state(result, call)
    except (NotLocked, DigestMismatch) as error:
        return error
    return None


def unchecked(call: Call, done: Watched) -> Iterator[str]:
    """Say where code may have taken a file of its own, as from a cache in HOME, for one that the lock names.

    With other arguments than the locked ones it may as well have needed no file: only one that is like those of the
    lock counts.
    """
    files = _files(call)
    read = done.beside.users_files() if _missed(files, ever_given) else {}
    missed = _missed(files, {*ever_given, *done.given, *filter(None, read.values())}) or ()
    unknown = [path for path, digest in read.items() if digest is None and (call.is_locked or _is_like(path, missed))]
    if missed and unknown:
        yield (
            f"{call.match.repo.id} {call.match.entrypoint} did not ask for {missed[0]}, which is locked, "
            f"but read {', '.join(unknown[:3])}, which nobody has checked"
        )


def may_fetch(call: Call) -> Iterator[str]:
    """Yield the address of every file that any model fetches that a call is like."""
    for files in _files(call):
        yield from files.values()


def _files(call: Call) -> list[Files]:
    """Return what each of the models fetches that a call is like."""
    return [_fetched_by(model) for model in call.like]


def _fetched_by(model: Model) -> Files:
    files = {file.digest: file.url for file in model.weights}
    return files | {file.digest: address(file.repo, file.file) for file in model.hf}


def _missed(files: Iterable[Files], given: Container[Digest]) -> list[str] | None:
    """Return what a call has missed of what a model fetches; None if there is no model.

    Which of several models it is like nobody knows: the one of which it has missed least.
    """
    return min(_each_missed(files, given), key=len, default=None)


def _each_missed(files: Iterable[Files], given: Container[Digest]) -> list[list[str]]:
    return [[name for digest, name in each.items() if digest not in given] for each in files]


def _is_like(path: str, addresses: Iterable[str]) -> bool:
    """Say whether a file may be of the kind of one of ``addresses``, by the end of its name."""
    return PurePath(path).suffix in {PurePath(urlsplit(address).path).suffix for address in addresses}
