"""``hublock remove``."""

import argparse

from hublock.cli.face import Face, given

SUMMARY = "take a model or weights out of manifest and lock"
EXAMPLES = "  hublock remove resnet18"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", metavar="NAME", type=given, help="as the manifest calls it")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.remove import remove

    remove(arguments.name, face.project, face.context)
    face.console.done("Removed", arguments.name)
    return 0
