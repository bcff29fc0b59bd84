"""``hublock help``."""

import argparse

from hublock.cli.face import Face
from hublock.cli.list import offer_of

SUMMARY = "print the signature and the docstring of an entry point"
EXAMPLES = """\
  hublock help pytorch/vision:v0.20.1 resnet18
  hublock help . net                    of the hubconf.py in this folder"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("reference", metavar="REF", help="owner/repo[:ref], git+https://…[@ref] or a folder")
    parser.add_argument("entrypoint", metavar="ENTRYPOINT", help="which of its models")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from inspect import cleandoc

    from hublock.actions.offers import find_entrypoint

    entry = find_entrypoint(offer_of(arguments.reference, face), arguments.entrypoint)
    face.console.data(f"{entry.name}{entry.signature}")
    if entry.doc:
        face.console.data(f"\n{cleandoc(entry.doc)}")
    return 0
