"""``hublock run``."""

import argparse
from pathlib import Path

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
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module instead of a script")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="SCRIPT ARG", help="the script and its arguments")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.run import run_script

    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if arguments.module:
        words = ["-m", arguments.module, *words]
    if not words:
        raise InputError("which script should run?", hint="hublock run SCRIPT ARG…, or hublock run -m MODULE ARG…")
    startup = Path(__file__).parent.parent / "startup"
    return run_script(words, face.project, face.environ, startup=startup, allow_local=arguments.allow_local)
