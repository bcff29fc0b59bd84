"""Learn what an entry point fetches: run it once, answer each question with real bytes, then confirm it offline."""

import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hublock.actions.consent import how
from hublock.actions.context import Context
from hublock.actions.fetching import FetchingAnswers
from hublock.actions.pin import Pinned, repository
from hublock.core.arguments import show_call
from hublock.core.digest import Digest
from hublock.core.hubconf import EntryPoint
from hublock.core.lockfile import Lock, Model, Repo
from hublock.core.manifest import WantedModel
from hublock.errors import HublockError, IncompleteTrace, UnlockedDownload
from hublock.runtime import environment
from hublock.runtime.answers import LockedAnswers
from hublock.runtime.tracing.parent import DEFAULT_TIMEOUT, Job, Outcome, trace

TRACE_SEED, CONFIRM_SEED = 1, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceOptions:
    """How a user wants models traced."""

    confirm: bool = True
    timeout: float = DEFAULT_TIMEOUT
    allow_pickle: bool = False
    """Consent to whatever globals are found, execution primitives apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """A model that was traced, and what came with it."""

    model: Model
    nested: tuple[Pinned, ...]
    consent: tuple[str, ...]
    """Pickle globals found that the user consented to by ``allow_pickle``."""
    entrypoints: tuple[EntryPoint, ...]
    """Everything hubconf.py offers."""
    repo: Repo
    """The model's repository, with the verdicts on checkpoints that the trace found in its tree."""
    random: bool = False
    """The tensors of the two runs differ."""


def trace_model(
    wanted: WantedModel, pinned: Pinned, lock: Lock, context: Context, *, base: Path, options: TraceOptions
) -> Traced:
    """Trace and confirm one model; its files are in the store afterwards.

    Raises:
        IncompleteTrace: the entry point failed, hung, or fetched what cannot be recorded, or it loads otherwise
            offline than it did online.
        UnsafePickle: a checkpoint names globals that nobody consented to.
        RemoteError: a file it asked for could not be fetched.
        DigestMismatch: a file is not what the lock, or its own name, says.
    """
    answers = FetchingAnswers(wanted, pinned, lock, context, base=base, allow_pickle=options.allow_pickle)
    job = Job(
        repository=repository(pinned.repo, pinned.tree),
        entrypoint=wanted.entrypoint,
        args=wanted.args,
        kwargs=wanted.kwargs,
        seed=TRACE_SEED,
        inputs=answers.input_paths,
    )
    name = called(wanted)
    context.progress.note(f"tracing {name}")
    with _showing(wanted, answers, context, base), context.progress.step(f"tracing {name}"):
        seen = trace(job, answers, timeout=options.timeout, on_output=context.progress.note)
    model = answers.locked(seen)
    # a list that is computed could not be read, or not wholly
    dependencies = tuple(dict.fromkeys((*pinned.repo.dependencies, *seen.dependencies)))
    environment.check(
        dependencies=dependencies,
        trees_own=pinned.tree.listing.top_names,
        of=pinned.repo.id,
    )
    repo = replace(pinned.repo, dependencies=dependencies, tree_weights=answers.tree_weights, models=(model,))
    random = False
    if options.confirm:
        context.progress.note(f"confirming {name} without network (traced with {seen.isolation})")
        own = Lock(repos=(repo, *(nested.repo for nested in answers.nested if nested.repo.id != repo.id)))
        strict = LockedAnswers(own, repo, [model], context.store)
        job = replace(job, seed=CONFIRM_SEED)
        with _showing(wanted, answers, context, base), context.progress.step(f"confirming {name}"):
            again = trace(job, strict, timeout=options.timeout, on_output=context.progress.note)
            state, tolerated = judge(wanted, model, own.repos, seen, again, context)
        model = replace(model, traced="confirmed", state=state, tolerated=tolerated)
        random = seen.state != again.state
    elif untold := set(seen.refusals) - set(wanted.tolerate):
        raise _fell_back(wanted, sorted(untold), "is not proven to load the same without")
    return Traced(
        model=model,
        nested=answers.nested,
        consent=answers.consent,
        entrypoints=seen.entrypoints,
        repo=replace(repo, models=()),
        random=random,
    )


@contextmanager
def _showing(wanted: WantedModel, answers: FetchingAnswers, context: Context, base: Path) -> Iterator[None]:
    """Show what an entry point had been given, should it not come to its end.

    Raises:
        IncompleteTrace: it asked for what cannot be recorded, or ended without a file of the user's that it may need.
    """
    try:
        yield
    except HublockError as error:
        for what in answers.asked_for:
            context.progress.say(f"{called(wanted)} had fetched {what}")
        if isinstance(error, UnlockedDownload):
            raise IncompleteTrace(f"{error.message}; nothing was locked", hint=error.hint) from error
        advice = _advice(wanted, error.message, base) if isinstance(error, IncompleteTrace) else None
        if advice:
            raise IncompleteTrace(error.message, hint=how(wanted, *advice)) from error
        raise


def _advice(wanted: WantedModel, message: str, base: Path) -> tuple[str, str] | None:
    """Return what to add to the command, and to the manifest, where a trace kept from the code what it has in a load.

    That is a file of the user's, an argument or one that the system says is missing, or a place to write to.
    """
    withheld = _not_handed_in(wanted, _MISSING.findall(message), base)
    if withheld:
        option = f"--input {shlex.quote(withheld)}, if it reads that file of yours"
        return option, f"inputs = {json.dumps([*wanted.inputs, withheld])}"
    if _DENIED.search(message):
        return "--no-trace --url URL for each file, as a trace writes only in folders of its own", "urls = [...]"
    return None


_MISSING = re.compile(r"No such file or directory: '([^/'\\][^'\\]{0,200})'")
_DENIED = re.compile(r"Permission denied: '/")
"""As Python writes what the system says of a path."""


def _not_handed_in(wanted: WantedModel, missing: Iterable[str], base: Path) -> str | None:
    """Return a file of the user's, which a trace only sees if it is handed in."""
    words = [value for value in (*wanted.args, *wanted.kwargs.values()) if isinstance(value, str)]
    words += [word for word in missing if ".." not in Path(word).parts]
    return next((word for word in words if word not in wanted.inputs and (base / word).is_file()), None)


def judge(
    wanted: WantedModel, model: Model, repos: Iterable[Repo], seen: Outcome, again: Outcome, context: Context
) -> tuple[Digest | None, tuple[str, ...]]:
    """Decide what two runs of ``model``, which loads ``repos``, prove.

    Returns the state to lock, and the refusals the model does not depend on.

    Raises:
        IncompleteTrace: something was refused, and the tensors are not proven equal or there is no file that they
            could come from: the entry point may have fallen back to random weights.
    """
    refused = tuple(sorted({*seen.refusals, *again.refusals}))
    proven = seen.state is not None and seen.state == again.state
    untold = [what for what in refused if what not in wanted.tolerate]
    if untold and not proven:
        raise _fell_back(wanted, untold, "is not proven to load the same without")
    # weights that come from no file are equal in both runs where the code sets the random seed itself, or zeros
    if untold and not (model.fetched or model.inputs or any(repo.tree_weights for repo in repos)):
        raise _fell_back(wanted, untold, "fetched no file at all")
    if seen.state != again.state:
        context.progress.say(f"{called(wanted)} initialises at random: its tensors differ from run to run")
    if refused:
        context.progress.say(f"{called(wanted)} was refused {', '.join(refused)} and loads without")
    return (seen.state if proven else None), refused


def called(wanted: WantedModel) -> str:
    """Return a model as a call: ``resnet18(weights='IMAGENET1K_V1')``."""
    return show_call(wanted.entrypoint, wanted.args, wanted.kwargs)


def _fell_back(wanted: WantedModel, refused: Collection[str], why: str) -> IncompleteTrace:
    what = ", ".join(refused)
    options = " ".join(f"--tolerate {shlex.quote(item)}" for item in refused)
    line = f"tolerate = {json.dumps(sorted({*wanted.tolerate, *refused}))}"
    return IncompleteTrace(
        f"{wanted.repo} {wanted.entrypoint} was refused {what} and {why}, so it may have fallen back to random weights;"
        " nothing was locked",
        hint=how(wanted, f"{options}, if the model is right without", line),
    )
