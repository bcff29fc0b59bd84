"""``hublock update``."""

import argparse
from typing import TYPE_CHECKING

from hublock.cli import tracing
from hublock.cli.face import Face, given
from hublock.errors import InputError

if TYPE_CHECKING:
    from hublock.actions.update import Moved, Updated

SUMMARY = "move pins to what the hosts hold now, and show what that changes"
EXAMPLES = """\
  hublock update resnet18              its repository, and its files
  hublock update --all --dry-run       show, and change nothing
  hublock update resnet18 --precise 3ac97aa9120137381ed1060f37237e44485ac2aa
  hublock update resnet18 --allow-rewritten    follow a tag that was moved"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=given, help="a model, weights, or a repository as the lock has it"
    )
    parser.add_argument("--all", action="store_true", help="everything that is locked")
    parser.add_argument("--precise", metavar="SHA", help="move to this commit")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument(
        "--allow-rewritten", action="store_true", help="follow a tag that was moved or a branch that was rewritten"
    )
    tracing.configure(parser)


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    if bool(arguments.names) == arguments.all:
        question = "update takes either names or --all" if arguments.all else "what should be updated?"
        raise InputError(question, hint="hublock update NAME, or hublock update --all")
    from hublock.actions.update import Request, update

    request = Request(
        names=tuple(arguments.names),
        precise=arguments.precise,
        dry_run=arguments.dry_run,
        allow_rewritten=arguments.allow_rewritten,
    )
    done = update(face.project, face.context, request, options=tracing.options(arguments))
    _report(done, request.dry_run, face)
    return 0


def _report(done: "Updated", dry_run: bool, face: Face) -> None:
    from hublock.report import text

    console = face.console
    for moved in done.moved:
        _report_move(moved, dry_run, face)
    for url in done.replaced:
        console.warn(f"{url} has other bytes by now")
    if done.locking is not None:
        tracing.report(done.locking, console)
        for line in text.changes(done.changes):
            console.say(f"          {line}")
        if any(change.alarming for change in done.changes):
            console.warn(f"look twice at what is marked !: {text.LOOK_TWICE}")
    if not (done.moved or done.replaced):
        told = ", as far as hosts tell without fetching files" if dry_run else ""
        console.say(f"{face.project.lock.name} is up to date{told}")
        face.warn_if_stale(face.project.read_lock())
    elif dry_run:
        console.say("nothing was written; what the models fetch is found out when they are updated")


def _report_move(moved: "Moved", dry_run: bool, face: Face) -> None:
    from hublock.report import text

    move, history = moved.move, moved.move.history
    old, new = text.dated(move.repo.commit, history.before), text.dated(move.resolved.commit, history.committed)
    far = text.distance(history.commits, back=history.descends is False)
    face.console.done("Would move" if dry_run else "Moved", f"{move.repo.id} {old} -> {new}{f', {far}' if far else ''}")
    if move.surprising:
        what = "the tag was moved" if move.trend == "retagged" else "the branch was rewritten"
        what = f"{move.resolved.ref} instead of {move.repo.ref}" if move.strayed else what
        face.console.warn(f"{move.repo.id}: {what}, as --allow-rewritten allows")
    if move.trend == "unproven":
        face.console.warn(f"whether {new} follows from {old}, its host cannot show")
    for line in text.contract(moved.contract):
        face.console.say(f"          {line}")
