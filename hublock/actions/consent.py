"""What of a pickle beyond tensors a user has consented to, how a file is refused that needs more, how to consent."""

import json
from collections.abc import Collection
from shlex import quote

from hublock.core.lockfile import Pickle
from hublock.core.manifest import WantedModel, WantedWeights
from hublock.core.pickles.globals import UNREADABLE, executes
from hublock.core.pickles.scanning import judge
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
    line = f"allow-pickle = {json.dumps(sorted({*wanted.allow_pickle, *names}))}"
    if any(executes(name) for name in names):
        hint = f"do not load it; whoever must writes {line} under {_table(wanted)}"
    else:
        hint = how(wanted, "--allow-pickle, if you trust its author", line)
    return UnsafePickle(f"{what} would run {', '.join(names)} when it is unpickled", hint=hint)


def how(wanted: WantedModel | WantedWeights, option: str, line: str) -> str:
    """Return the hint that says how to consent: by ``option`` of `hublock add`, or by ``line`` in the manifest.

    Words of the command that are not shown are ``…``.
    """
    # nothing is added twice, and no other command consents
    return f"{_command(wanted)} {option}; where the manifest has {_table(wanted)} already, write {line} there"


def _table(wanted: WantedModel | WantedWeights) -> str:
    return f"[{'models' if isinstance(wanted, WantedModel) else 'weights'}.{wanted.name}]"


def _command(wanted: WantedModel | WantedWeights) -> str:
    if isinstance(wanted, WantedWeights):
        return f"hublock add --url {quote(wanted.url)} --name {quote(wanted.name)}"
    repo, entrypoint = wanted.repo, wanted.entrypoint
    more = "" if wanted == WantedModel(name=entrypoint, repo=repo, entrypoint=entrypoint) else " …"
    return f"hublock add {quote(repo)} {quote(entrypoint)}{more}"
