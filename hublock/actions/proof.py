"""What is proven of a loaded model: its state, and that nothing stands in it for what is locked."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from hublock.core.digest import Digest
from hublock.core.lockfile import Model
from hublock.core.matching import Call
from hublock.errors import DigestMismatch, NotLocked, UnlockedDownload
from hublock.runtime.fingerprint import fingerprint
from hublock.runtime.strict.reads import Kept
from hublock.runtime.strict.refusals import ever_given
from hublock.runtime.torchhub import Watched

Files = Mapping[Digest, str]
"""What a model fetches, as a user knows it."""


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
        raise NotLocked(
            f"{match.repo.id} {match.entrypoint} is locked without a state: it initialises at random, "
            "or was not confirmed",
            hint=f"hublock lock --retrace {call.alike[0].name}, if it does not",
        )
    if not states:
        raise NotLocked(
            f"the lock has no state for this call of {match.repo.id} {match.entrypoint}",
            hint=f"hublock add {match.repo.id} {match.entrypoint} with these arguments",
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
    """Refuse what may be the fallback of a load that was refused.

    A library may have kept it, in an ``lru_cache`` or a global, from which nobody can free it, or a file may hold it.

    Raises:
        UnlockedDownload: there is such a library, which its code names if it is a call with other arguments, or it has
            read such a file; and nothing proves that the model is right all the same.
    """
    files = _files(call)
    missed = _missed(files if call.is_locked else filter(None, files), done.given)
    kept, left = _kept(call, done, missed), _left(call, done, missed)
    if not kept and not left:
        return
    wrong = _state_error(done.result, call)
    if _is_cleared(wrong, call, done, missed, kept=kept, left=left):
        return
    doubts = [
        (
            f"{item.library} was refused {item.file or 'something'} before and may have kept what it took instead",
            "load it in a new process",
        )
        for item in sorted(kept, key=lambda item: not item.file)
    ]
    doubts += [(f"it read {path}, which a load that was refused has written", f"rm {path}") for path in left]
    reason, hint = doubts[0]
    what = f"did not ask for {missed[0]}, which is locked" if missed else "may have taken a fallback"
    raise UnlockedDownload(f"{call.match.repo.id} {call.match.entrypoint} {what}: {reason}", hint=hint) from wrong


def _kept(call: Call, done: Watched, missed: Sequence[str] | None) -> list[Kept]:
    """Return what libraries may have kept that this load may have got."""
    kept = done.beside.keepers(named=not call.is_locked or missed == [])
    if call.is_locked and missed == []:
        # it was given all that is a file, and not the files of others
        return [item for item in kept if item.by_same or not item.file]
    return kept


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
    """Say whether a load is right in spite of what may have been kept or left.

    ==============  ======================  ==========================================================================
    its state       its arguments           it passes
    ==============  ======================  ==========================================================================
    the locked one  the locked ones         but where a library kept something, and no load of the process was ever
                                            given some file of the model: labels, say, are no part of a state
    another         the locked ones         never
    none is locked  the locked ones         where it was given all that the model fetches
    none is locked  other ones              there too, and where what was refused were no files; but never where this
                                            entry point itself was refused one
    ==============  ======================  ==========================================================================
    """
    if wrong is None:
        return not kept or not _missed(_files(call), {*done.given, *ever_given})
    if isinstance(wrong, DigestMismatch):
        return False
    if call.is_locked:
        return missed == []
    of_files = [item for item in kept if item.file]
    return not any(item.by_same for item in of_files) and (missed == [] or not (left or of_files))


def _state_error(result: object, call: Call) -> NotLocked | DigestMismatch | None:
    try:
        check_state(result, call)
    except (NotLocked, DigestMismatch) as error:
        return error
    return None


def unchecked(call: Call, done: Watched, given: frozenset[Digest]) -> Iterator[str]:
    """Say where code may have taken a file of its own, as from a cache in HOME, for one that the lock names.

    ``given`` are the files that its answers have given. With other arguments than the locked ones it may as well have
    needed no file: only one that is like those of the lock counts.
    """
    files = _files(call)
    read = done.beside.users_files() if _missed(files, given) else {}
    missed = _missed(files, {*given, *done.given, *filter(None, read.values())}) or ()
    unknown = [path for path, digest in read.items() if digest is None and (call.is_locked or _is_like(path, missed))]
    if missed and unknown:
        yield (
            f"{call.match.repo.id} {call.match.entrypoint} did not ask for {missed[0]}, which is locked, "
            f"but read {', '.join(unknown[:3])}, which nobody has checked"
        )


def _files(call: Call) -> list[Files]:
    """Return what each of the models fetches that a call is like."""
    return [_fetched_by(model) for model in call.like]


def _fetched_by(model: Model) -> Files:
    files = {file.digest: file.url for file in model.weights}
    return files | {file.digest: f"{file.file} of {file.repo} at Hugging Face" for file in model.hf}


def _missed(files: Iterable[Files], given: Container[Digest]) -> list[str] | None:
    """Return what a call has missed of what a model fetches; None if there is no model.

    Which of several models it is like nobody knows: the one of which it has missed least.
    """
    missed = ([name for digest, name in each.items() if digest not in given] for each in files)
    return min(missed, key=len, default=None)


def _is_like(path: str, names: Iterable[str]) -> bool:
    """Say whether a file may be of the kind of one of ``names``, by the end of its name."""
    return PurePath(path).suffix in {PurePath(name).suffix for name in names}
