"""``hublock run``."""

import argparse
import sys
from typing import TYPE_CHECKING

from hublock.cli.face import Face
from hublock.errors import InputError, NotLocked

if TYPE_CHECKING:
    from hublock.actions.project import Project

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

    hint = "hublock run SCRIPT ARG…, or hublock run -m MODULE ARG…"
    words = arguments.module or (arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words)
    if not words or not words[0]:
        raise InputError("which script should run?", hint=hint)
    project = _project_of("" if arguments.module else words[0], face)
    read_named_lock(project.lock)
    if not arguments.module:
        check_script(words[0], face, hint)
    program = [sys.executable, *(["-m"] if arguments.module else []), *words]
    return run_program(program, project, face.environ, allow_local=arguments.allow_local)


def check_script(script: str, face: Face, hint: str) -> None:
    """Refuse a script that is not there, before Python does.

    Raises:
        InputError: there is none.
    """
    if not (face.cwd / script).exists():
        raise InputError(f"there is no script {script}", hint=hint)


def _project_of(script: str, face: Face) -> "Project":
    """Return the project of the current folder, else that of the script, whose own loads would find it."""
    from hublock.actions.project import find_project

    try:
        return face.project
    except NotLocked:
        found = find_project((face.cwd / script).parent, face.home) if script else None
        if found is None:
            raise
        return found
