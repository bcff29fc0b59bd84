"""``hublock bundle``."""

import argparse
from pathlib import Path

from hublock.cli.console import counted, size
from hublock.cli.face import Face, given
from hublock.errors import InputError

SUMMARY = "write what hub.lock names into one file, for machines without a network"
EXAMPLES = """\
  hublock bundle out.tar                there, with network, after hublock sync
  hublock sync --from-bundle out.tar    here, without"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "out", metavar="OUT.tar", type=given, help="the file to write; the same lock gives the same bytes"
    )


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.bundle import write_bundle

    if arguments.out == "-":
        raise InputError("a bundle is written to a file, not to the standard output", hint="hublock bundle OUT.tar")
    from hublock.actions.project import read_named_lock

    done = write_bundle(read_named_lock(face.project.lock), face.context, Path(arguments.out).absolute())
    what = f"{counted(done.trees, 'tree')} and {counted(done.files, 'file')}, {size(done.size)}"
    face.console.done("Bundled", f"{what} into {arguments.out}")
    return 0
