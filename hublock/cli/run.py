"""``hublock run``."""

import argparse
import sys

from hublock.cli.face import Face
from hublock.errors import InputError

SUMMARY = "run a script whose torch.hub calls are answered from hub.lock"
EXAMPLES = """\
  hublock run train.py --epochs 3
  hublock run -m package.train
  the script's exit status is returned, or 120 + hublock's own where hublock stopped it"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--allow-local", action="store_true", help='let torch.hub.load(source="local") run your folders'
    )
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="run a module instead of a script")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="SCRIPT ARG", help="the script and its arguments")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.project import read_named_lock
    from hublock.actions.run import run_program

    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if arguments.module:
        words = ["-m", *arguments.module]
    if not words:
        raise InputError("which script should run?", hint="hublock run SCRIPT ARG…, or hublock run -m MODULE ARG…")
    read_named_lock(face.project.lock)
    program = [sys.executable, *words]
    return run_program(program, face.project, face.environ, allow_local=arguments.allow_local)
