"""``hublock lock``."""

import argparse
import shutil
import sys
from shlex import quote
from typing import TYPE_CHECKING

from hublock.cli import tracing
from hublock.cli.face import Face, given, repeatable
from hublock.cli.run import check_script
from hublock.errors import InputError

if TYPE_CHECKING:
    from hublock.actions.trace import TraceOptions

SUMMARY = "answer in hub.lock what the manifest wants; never move a pin"
EXAMPLES = """\
  hublock lock
  hublock lock --check             change nothing, exit 1 if the lock is stale
  hublock lock --retrace resnet18  on another machine: add the files it fetches there
  hublock lock -- python train.py  add what a script's own torch.hub calls ask for"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--check", action="store_true", help="only say whether the lock answers the manifest")
    repeatable(parser, "--retrace", metavar="NAME", type=given, help="trace a locked model again")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="a program whose torch.hub calls are locked"
    )
    tracing.configure(parser)


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.lock import check_lock, lock_project

    if arguments.command and arguments.command[0] != "--":
        word = arguments.command[0]
        raise InputError(
            f"lock locks all that the manifest wants, not {word} alone",
            hint=f"hublock lock; --retrace {quote(word)} for a locked model, -- before a program to record",
        )
    command = arguments.command[1:]
    options = [
        f"--{key.replace('_', '-')}" for key in ("check", "retrace", "no_confirm", "timeout") if vars(arguments)[key]
    ]
    if command and (arguments.check or arguments.retrace):
        raise InputError(f"{options[0]} and a command to run do not go together", hint="hublock lock -- COMMAND ARG…")
    if arguments.check and len(options) > 1:
        raise InputError(
            f"--check changes nothing, so {options[1]} has no effect beside it", hint="hublock lock --check"
        )
    if command:
        return _record(command, face, tracing.options(arguments))
    project = face.project
    if arguments.check:
        reasons = check_lock(project)
        if reasons:
            raise project.stale(reasons)
        face.console.say(f"{project.lock.name} is current")
        return 0
    verb = "updated" if project.lock.exists() else "created"
    done = lock_project(project, face.context, options=tracing.options(arguments), retrace=arguments.retrace)
    tracing.report(done, face.console)
    face.console.say(f"{project.lock.name} {f'was {verb}' if done.changed else 'is current'}")
    return 0


def _record(words: list[str], face: Face, options: "TraceOptions") -> int:
    from hublock.actions.run import OFFSET, run_program

    hint = "hublock lock -- python SCRIPT ARG…"
    program = [sys.executable, *words[1:]] if words[0] in ("python", "python3") else words
    if shutil.which(program[0], path=face.environ.get("PATH")) is None:
        raise InputError(f"there is no program {program[0]}", hint=hint)
    if program is not words and words[1:] and not words[1].startswith("-"):
        check_script(words[1], face, hint)
    code = run_program(program, face.new_project, face.environ, record=options)
    if code and code < OFFSET:
        face.console.warn(f"{words[0]} ended with status {code}: what it had asked for until then is locked")
    return code
