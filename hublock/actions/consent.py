"""What of a pickle beyond tensors a user has consented to, and how a file is refused that needs more."""

import json
from collections.abc import Collection

from hublock.core.lockfile import Pickle
from hublock.core.manifest import WantedModel, WantedWeights
from hublock.core.pickles import UNREADABLE, executes, judge
from hublock.errors import UnsafePickle


def demand(
    wanted: WantedModel | WantedWeights, what: str, pickle: Pickle, given: Collection[str] = (), *, allow: bool
) -> tuple[str, ...]:
    """Return the globals of the file ``what`` that are consented to only now.

    Args:
        wanted: whose file it is; its ``allow-pickle`` is consent.
        what: the file, as a user knows it.
        pickle: what its pickle was found to name.
        given: further consent.
        allow: whether the user consents to all that cannot run anything (``--allow-pickle``).

    Raises:
        UnsafePickle: it names others.
    """
    lacking = judge(pickle, {*wanted.allow_pickle, *given})
    agreed = tuple(name for name in lacking if not executes(name)) if allow else ()
    lacking = tuple(name for name in lacking if name not in agreed)
    if lacking:
        raise _unsafe(wanted, what, lacking)
    return agreed


def _unsafe(wanted: WantedModel | WantedWeights, what: str, names: tuple[str, ...]) -> UnsafePickle:
    if UNREADABLE in names:
        return UnsafePickle(
            f"{what} cannot be judged: its pickle breaks off, or could be read in two ways",
            hint="ask its author for a file that torch.load(weights_only=True) reads",
        )
    table = f"[{'models' if isinstance(wanted, WantedModel) else 'weights'}.{wanted.name}]"
    agreed = json.dumps(sorted({*wanted.allow_pickle, *names}))
    if any(executes(name) for name in names):
        hint = f"do not load it; whoever must writes allow-pickle = {agreed} under {table}"
    else:
        # nothing is added twice, and no other command consents
        hint = (
            f"{_command(wanted)} --allow-pickle, if you trust its author; "
            f"where the manifest has {table} already, write allow-pickle = {agreed} there"
        )
    return UnsafePickle(f"{what} would run {', '.join(names)} when it is unpickled", hint=hint)


def _command(wanted: WantedModel | WantedWeights) -> str:
    if isinstance(wanted, WantedWeights):
        return f"hublock add --url {wanted.url} --name {wanted.name}"
    more = " …" if wanted.args or wanted.kwargs or wanted.inputs or wanted.urls else ""
    return f"hublock add {wanted.repo} {wanted.entrypoint}{more}"
