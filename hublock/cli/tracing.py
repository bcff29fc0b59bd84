"""The options and words of the commands that trace."""

import argparse
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

from hublock.cli.console import Console, counted, size

if TYPE_CHECKING:
    from hublock.actions.lock import LockedModel, Locking
    from hublock.actions.trace import TraceOptions

WEIGHTS_WORDS = ("pretrained", "weights", "checkpoint")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to trace."""
    parser.add_argument("--no-confirm", action="store_true", help="do not load each model a second time, offline")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="how long a model may run, fetching left out (default: 600)",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    # more than a year is no limit, and more than the system's clocks can count
    if not 0 < seconds <= 365 * 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def options(arguments: argparse.Namespace, *, allow_pickle: bool = False) -> "TraceOptions":
    """Return the options as the actions take them."""
    from hublock.actions.trace import TraceOptions

    chosen = TraceOptions(confirm=not arguments.no_confirm, allow_pickle=allow_pickle)
    return replace(chosen, timeout=arguments.timeout) if arguments.timeout else chosen


def report(done: "Locking", console: Console) -> None:
    """Say what was locked and dropped."""
    for locked in done.models:
        _report_model(locked, console)
    for name, names in done.consent.items():
        console.say(f"          {name} may unpickle {', '.join(names)}")
    for name in done.dropped:
        console.done("Dropped", name)


def _report_model(locked: "LockedModel", console: Console) -> None:
    model, repo = locked.model, locked.repo
    date = f" of {locked.committed:%Y-%m-%d}" if locked.committed else ""
    files, handed_in = model.fetched, model.inputs
    total = size(sum(file.size for file in (*files, *handed_in)))
    console.done("Locked", f"{model.name}: {locked.call} of {repo.id} at {repo.commit[:12]}{date}")
    kinds = [counted(len(files), "file")] if files else []
    kinds += [counted(len(handed_in), "input")] if handed_in else []
    what = f"{' and '.join(kinds)}, {total}" if kinds else "no files"
    how = f"traced within {model.isolation}, {model.traced}" if model.isolation else model.traced
    console.say(f"          {what}; {how}")
    for nested in model.repos:
        console.say(f"          loads {nested}, locked with it")
    if model.state is None and not handed_in:
        chooses = [name for name in locked.parameters if any(word in name.lower() for word in WEIGHTS_WORDS)]
        if not {*locked.parameters[: len(model.args)], *model.kwargs}.isdisjoint(chooses):
            # who gave one of them has chosen
            return
        advice = f"; {' and '.join(chooses)} may choose weights" if chooses else ""
        if not files:
            console.warn(f"{locked.call} fetched nothing{advice}")
        elif advice and locked.random:
            console.warn(f"{locked.call} is not the same whenever it is loaded{advice}")
        else:
            return
        if advice:
            console.hint(f"hublock remove {quote(model.name)}, then the same hublock add with --kwarg {chooses[0]}=…")
