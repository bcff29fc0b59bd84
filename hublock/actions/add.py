"""Add models or weights to the manifest, then lock them; both files change, or neither."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from shlex import quote

from hublock.actions.changing import changing
from hublock.actions.context import Context
from hublock.actions.describe import offer_of_pinned
from hublock.actions.fetching import check_input
from hublock.actions.lock import Locking, build, check_address
from hublock.actions.offers import Offer
from hublock.actions.pin import pin_once, remote_of
from hublock.actions.project import Project
from hublock.actions.secrets import refuse_tokens
from hublock.actions.trace import TraceOptions
from hublock.core import fields
from hublock.core.arguments import Value
from hublock.core.lockfile import Lock
from hublock.core.manifest import Manifest, WantedModel, WantedWeights, edit_manifest, is_same
from hublock.core.matching import same_arguments
from hublock.core.nearest import nearest
from hublock.core.plan import plan
from hublock.core.reference import Reference, key_of
from hublock.core.tables import Cell, Source
from hublock.errors import InputError, RefNotFound
from hublock.net.git.refs import short


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a user asked to add."""

    reference: str
    entrypoints: tuple[str, ...] = ()
    name: str | None = None
    args: tuple[Value, ...] = ()
    kwargs: Mapping[str, Value] = field(default_factory=dict)
    allow_unreachable: bool = False
    tolerate: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    recorded: bool = False
    """Whether a running program asks: what the lock has by now is left as it is, and a taken name gets a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """What adding did; nothing was added where ``offer`` is given: it lists what could be."""

    locking: Locking | None = None
    offer: Offer | None = None
    understood: str | None = None
    """How an ambiguous spelling was understood."""


def add_models(wish: Wish, project: Project, context: Context, *, options: TraceOptions) -> Added:
    """Lock one or more entry points of a repository under names of their own.

    Raises:
        InvalidReference: the reference follows none of the spellings.
        InputError: a name is taken or none, the reference means two things, a declared URL or a refusal to tolerate is
            none, or no manifest can hold an argument.
        RefNotFound: the word behind the colon is neither ref nor entry point.
        EntrypointNotFound: the repository has no such entry point.
        NotLocked: there is a lock, and no manifest.
        HublockError: whatever locking raises; neither file was touched.
    """
    refuse_tokens(repr(wish), "what is to be added", context)
    if wish.name:
        _check_name(wish.name)
    for url in wish.urls:
        _check_url(url, context)
    for refusal in wish.tolerate:
        _check_refusal(refusal)
    with changing(project, context) as project:
        text = project.manifest_text()
        manifest, lock = project.read_manifest(text), project.read_lock()
        reference = _relative(Reference.parse(wish.reference), project)
        entrypoints, understood = wish.entrypoints, None
        if not entrypoints:
            reference, entrypoints, understood, offer = _understand(reference, wish, lock, project, context)
            if offer is not None:
                return Added(offer=offer, understood=understood)
        reference = _by_new_name(reference, wish, lock, project, context)
        if wish.recorded:
            if _is_locked(wish, reference, lock):
                return Added()
            wish = replace(wish, name=_free(entrypoints[0], manifest))
        wanted = _new(_wanted(replace(wish, entrypoints=entrypoints), str(reference), project), manifest, project)
        _refuse_dropping(replace(manifest, models=wanted), lock, project)
        for model in wanted:
            # what cannot be written is not worth a trace
            edit_manifest(text, embedded=project.embedded, add=model)
        done = build(
            replace(manifest, models=(*manifest.models, *wanted)), lock, context, base=project.folder, options=options
        )
        text = _written(manifest, wanted, done, project)
        done = replace(done, changed=project.write_both(text, done.lock))
        return Added(locking=done, understood=understood)


def add_weights(
    name: str, url: str, project: Project, context: Context, *, options: TraceOptions, recorded: bool = False
) -> Locking:
    """Lock a file that a script loads by URL itself; ``recorded`` is as that of a :class:`Wish`.

    Raises:
        InputError: the name is taken or none, or the URL is none, plain http, or holds a credential.
        TransferError: the file could not be fetched.
        UnsafePickle: it is a pickle that names more than tensors.
        NotLocked: there is a lock, and no manifest.
        HublockError: whatever locking raises of models that were not locked yet.
    """
    _check_name(name)
    _check_url(url, context)
    with changing(project, context) as project:
        text = project.manifest_text()
        manifest, lock = project.read_manifest(text), project.read_lock()
        if recorded:
            if any(item.url == url for item in lock.weights):
                return Locking(lock=lock, changed=False)
            name = _free(name, manifest)
        known = [replace(item, allow_pickle=()) for item in manifest.weights]
        wanted = tuple(item for item in [WantedWeights(name=name, url=url)] if item not in known)
        _refuse_taken([item.name for item in wanted], manifest, project)
        _refuse_dropping(replace(manifest, weights=wanted), lock, project)
        done = build(
            replace(manifest, weights=(*manifest.weights, *wanted)), lock, context, base=project.folder, options=options
        )
        return replace(done, changed=project.write_both(_written(manifest, wanted, done, project), done.lock))


def _new(wanted: Sequence[WantedModel], manifest: Manifest, project: Project) -> tuple[WantedModel, ...]:
    """Return the models that the manifest does not have just so, each under a name that nobody has."""
    known = [replace(model, allow_pickle=(), requires=()) for model in manifest.models]
    new = tuple(model for model in wanted if not any(_is_alike(model, other) for other in known))
    _refuse_taken([model.name for model in new], manifest, project)
    return new


def _is_alike(left: WantedModel, right: WantedModel) -> bool:
    """Tell whether two models are wanted alike, in whatever case GitHub's names are typed."""
    return key_of(left.repo) == key_of(right.repo) and is_same(left, replace(right, repo=left.repo))


def _wanted(wish: Wish, repo: str, project: Project) -> tuple[WantedModel, ...]:
    """Turn a wish into models."""
    if wish.name and len(wish.entrypoints) > 1:
        raise InputError(
            f"--name {wish.name} cannot name {len(wish.entrypoints)} entry points", hint="add them one at a time"
        )
    names = [wish.name or entrypoint for entrypoint in wish.entrypoints]
    return tuple(
        WantedModel(
            name=name,
            repo=repo,
            entrypoint=entrypoint,
            args=wish.args,
            kwargs=wish.kwargs,
            allow_unreachable=wish.allow_unreachable,
            tolerate=_once(wish.tolerate),
            inputs=_once(_beside(path, project) for path in wish.inputs),
            urls=_once(wish.urls),
        )
        for name, entrypoint in zip(names, wish.entrypoints, strict=True)
    )


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _check_name(name: str) -> None:
    fields.name(Cell(name, Source(file="--name", refusal=InputError, hint="hublock add … --name NAME")))


def _check_url(url: str, context: Context) -> None:
    """Refuse, before anybody is asked, a URL that is never fetched or that no lock can hold."""
    hint = "hublock add … --url https://…, with %20 for a space"
    if not url.lower().startswith(("http://", "https://")):
        raise InputError(f"{url!r} is not an http or https URL", hint=hint)
    fields.url(Cell(url, Source(file="--url", refusal=InputError, hint=hint)))
    check_address(url, context, hint=hint)


def _check_refusal(refusal: str) -> None:
    hint = "hublock add … --tolerate https://HOST, or --tolerate subprocess:PROGRAM"
    fields.tolerated(Cell(refusal, Source(file="--tolerate", refusal=InputError, hint=hint)))


def _refuse_taken(names: Sequence[str], manifest: Manifest, project: Project) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError(f"{name} is there twice", hint="name each entry point once")
        if name in manifest.names:
            raise InputError(
                f"{project.manifest} already has another {name}",
                hint=f"hublock add … --name {quote(_free(name, manifest))}, or hublock remove {quote(name)} first",
            )


def _refuse_dropping(rest: Manifest, lock: Lock, project: Project) -> None:
    """Refuse a new manifest, of ``rest`` alone, where the one that wanted what is locked was lost."""
    if project.manifest.exists():
        return
    todo = plan(rest, lock)
    # of an add that was killed, the lock has all already
    kept = {*todo.keep, *(item.name for item in rest.weights if item not in todo.fetch)}
    if not {*lock.names} <= kept:
        raise project.without_manifest()


def _free(name: str, manifest: Manifest) -> str:
    numbered = (f"{name}-{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in manifest.names)


def _is_locked(wish: Wish, reference: Reference, lock: Lock) -> bool:
    repo = lock.repo(str(reference))
    return repo is not None and any(
        model.entrypoint in wish.entrypoints and same_arguments(wish.args, wish.kwargs, model) for model in repo.models
    )


def _written(manifest: Manifest, new: Sequence[WantedModel | WantedWeights], done: Locking, project: Project) -> str:
    """Return the manifest with what is ``new``, and with what was consented to for anything in it."""
    # once more: what its author wrote in the meantime stays, and no name of theirs is replaced
    text = project.manifest_text()
    _refuse_taken([item.name for item in new], project.read_manifest(text), project)
    for item in (*manifest.models, *manifest.weights, *new):
        agreed = tuple(dict.fromkeys((*item.allow_pickle, *sorted(done.consent.get(item.name, ())))))
        if item in new or agreed != item.allow_pickle:
            text = edit_manifest(text, embedded=project.embedded, add=replace(item, allow_pickle=agreed))
    return text


def _relative(reference: Reference, project: Project) -> Reference:
    """Write a local path relative to the project: no absolute path enters a lock."""
    if reference.kind != "local":
        return reference
    path = _from(Path(reference.location), project)
    # read again: a folder between the project and here may have a name that no lock can hold
    return Reference.parse(path if path in (".", "..") or path.startswith("../") else f"./{path}")


def _beside(given: str, project: Project) -> str:
    """Return a file the user hands in as the lock knows it: relative to the project, and inside it.

    Raises:
        InputError: it lies elsewhere, or is no file there.
    """
    path = _from(Path(given), project)
    if path.startswith("../"):
        check_input(Path(given).expanduser(), given)
        raise InputError(
            f"the input {given} lies outside the project {project.folder}", hint=f"copy it into {project.folder}"
        )
    return path


def _by_new_name(reference: Reference, wish: Wish, lock: Lock, project: Project, context: Context) -> Reference:
    """Return the reference under which its host knows the repository by now: anybody may take the old name."""
    if reference.kind == "local" or lock.repo(str(reference)) is not None:
        return reference
    remote = remote_of(reference, context, project.folder)
    moved = remote.resolve(reference.ref, allow_unreachable=wish.allow_unreachable).moved
    if moved is None:
        return reference
    context.progress.warn(f"{reference.location} is called {moved.location} by now: adding it under that name")
    return moved


def _from(path: Path, project: Project) -> str:
    return os.path.relpath(path.expanduser().absolute(), project.folder).replace(os.sep, "/")


_Understood = tuple[Reference, tuple[str, ...], str | None, Offer | None]


def _understand(reference: Reference, wish: Wish, lock: Lock, project: Project, context: Context) -> _Understood:
    """Decide what ``REF`` or ``REF:WORD`` without an entry point means.

    A ref wins where only a ref has that name, an entry point of the default branch where only that has; a name that is
    both is refused, and so is one that is neither.
    """
    word = reference.ref
    if word is None or reference.kind != "github":
        return reference, (), None, _offer(reference, wish, lock, project, context)
    plain = reference.at(None)
    refs = _refs_instead(reference, project, context)
    offer = _default_offer(plain, wish, lock, project, context)
    names = [entry.name for entry in offer.entrypoints] if offer else []
    if refs is None and word in names:
        raise InputError(
            f"{word} is both a ref and an entry point of {plain}",
            hint=f"hublock add {plain} {quote(word)} for the entry point, "
            f"hublock add {quote(str(reference))} ENTRYPOINT for the ref",
        )
    if refs is None:
        return reference, (), None, _offer(reference, wish, lock, project, context)
    if word not in names:
        raise RefNotFound(
            f"{plain} has neither a ref nor an entry point {word}{nearest(word, {*names, *refs})}",
            hint=f"hublock list {plain} shows its entry points; refs: {', '.join(sorted(refs)[:5]) or 'none'}",
        )
    return plain, (word,), f"{plain} has no ref {word}: taking the entry point {word} of its default branch", None


def _refs_instead(reference: Reference, project: Project, context: Context) -> set[str] | None:
    """Return the short names of the refs there are, if the one of ``reference`` is not among them."""
    remote = remote_of(reference, context, project.folder)
    try:
        remote.resolve(reference.ref)
    except RefNotFound:
        return set(map(short, remote.refs()))
    return None


def _default_offer(plain: Reference, wish: Wish, lock: Lock, project: Project, context: Context) -> Offer | None:
    """Return what the default branch offers; None where it has no hubconf.py (another branch may)."""
    try:
        return _offer(plain, wish, lock, project, context)
    except (InputError, RefNotFound):
        return None


def _offer(reference: Reference, wish: Wish, lock: Lock, project: Project, context: Context) -> Offer:
    allow = wish.allow_unreachable
    return offer_of_pinned(pin_once(reference, lock, context, base=project.folder, allow_unreachable=allow), context)
