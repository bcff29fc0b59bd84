"""``hublock verify``."""

import argparse

from hublock.cli.console import counted, size
from hublock.cli.face import Face
from hublock.errors import HublockError

SUMMARY = "check, offline, that the lock is current and the store intact"
EXAMPLES = """\
  hublock verify
  hublock verify --deep            hash every byte again
  hublock verify --format json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--deep", action="store_true", help="hash every byte, whatever sizes and times say")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how findings are printed")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.verify import verify
    from hublock.core.findings import exit_code
    from hublock.report import machine

    done = verify(face.project, face.context, deep=arguments.deep)
    if arguments.format == "json":
        face.console.json(machine.report(done.findings, models=done.models, trees=done.trees, files=done.files))
    else:
        for finding in done.findings:
            face.console.error(HublockError(finding.message, hint=finding.hint))
    if not done.findings:
        what = f"{counted(done.models, 'model')}, {counted(done.trees, 'tree')}, {counted(done.files, 'file')}"
        face.console.done("Verified", f"{what}, {size(done.size)}")
    return exit_code(finding.exit_code for finding in done.findings)
