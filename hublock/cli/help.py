"""``hublock help``."""

import argparse
from shlex import quote
from typing import TYPE_CHECKING

from hublock.cli.face import Face, given
from hublock.cli.list import offer_of
from hublock.core.nearest import nearest
from hublock.errors import InputError, InvalidReference

if TYPE_CHECKING:
    from hublock.core.lockfile import Lock

SUMMARY = "print the signature and the docstring of an entry point"
EXAMPLES = """\
  hublock help pytorch/vision:v0.20.1 resnet18
  hublock help resnet18                 of a locked model
  hublock help update                   of a command
  hublock help . net                    of the hubconf.py in this folder"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "reference",
        metavar="REF",
        type=given,
        help="owner/repo[:ref], git+https://…[@ref], a folder, or a locked model",
    )
    parser.add_argument("entrypoint", nargs="?", metavar="ENTRYPOINT", type=given, help="which of its models")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from inspect import cleandoc

    from hublock.actions.offers import find_entrypoint

    reference, entrypoint = arguments.reference, arguments.entrypoint
    if entrypoint is None:
        lock = face.new_project.read_lock()
        found = lock.by_name.get(reference)
        if found is None:
            raise _unclear(reference, lock)
        reference, entrypoint = found[0].id, found[1].entrypoint
    entry = find_entrypoint(offer_of(reference, face), entrypoint)
    face.console.data(f"{entry.name}{entry.signature}")
    if entry.doc:
        face.console.text(f"\n{cleandoc(entry.doc)}")
    return 0


def _unclear(word: str, lock: "Lock") -> InputError:
    """Return the error for one word that names no locked model: a repository, or nothing at all."""
    from hublock.core.reference import Reference

    try:
        Reference.parse(word)
    except InvalidReference:
        near = nearest(word, (model.name for model in lock.models))
        return InputError(
            f"{word} is neither a locked model nor a repository nor a command{near}",
            hint="hublock list, or hublock --help",
        )
    return InputError(f"which entry point of {word}?", hint=f"hublock list {quote(word)}")
