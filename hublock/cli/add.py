"""``hublock add``."""

import argparse
from shlex import quote
from typing import TYPE_CHECKING

from hublock.cli import tracing
from hublock.cli.console import counted, size
from hublock.cli.face import Face, given, repeatable
from hublock.cli.list import print_offer
from hublock.errors import InputError

if TYPE_CHECKING:
    from hublock.actions.lock import Locking

SUMMARY = "add models or weights, and lock them"
EXAMPLES = """\
  hublock add pytorch/vision:v0.20.1 resnet18 --kwarg weights=IMAGENET1K_V1
  hublock add pytorch/vision:resnet18          an entry point of the default branch
  hublock add pytorch/vision:v0.20.1           list the entry points, add nothing
  hublock add ./my-hub-repo net --name small --arg 10
  hublock add --url https://example.org/backbone-1a2b3c4d.pth --name backbone"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "reference", nargs="?", metavar="REF", type=given, help="owner/repo[:ref], git+https://…[@ref] or a path"
    )
    parser.add_argument("entrypoints", nargs="*", metavar="ENTRYPOINT", type=given, help="which of its models")
    parser.add_argument("--name", type=given, help="the name in the manifest (default: the entry point)")
    repeatable(parser, "--arg", metavar="V", help="a positional argument")
    repeatable(parser, "--kwarg", metavar="K=V", help="a keyword argument; K:=TEXT forces a string")
    repeatable(parser, "--url", metavar="URL", help="a file that a script loads by URL, or of --no-trace")
    parser.add_argument(
        "--no-trace", action="store_true", help="declare the files by --url instead of running the model"
    )
    parser.add_argument("--allow-unreachable", action="store_true", help="accept a commit that is on no branch or tag")
    parser.add_argument("--allow-pickle", action="store_true", help="consent to the pickle globals that are found")
    what = "a refusal the model may live with: https://HOST or subprocess:PROGRAM"
    repeatable(parser, "--tolerate", metavar="WHAT", help=what)
    repeatable(parser, "--input", metavar="PATH", type=given, help="a file you hand to the model")
    tracing.configure(parser)


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    if arguments.reference is None:
        return _add_weights(arguments, face)
    if arguments.url and not arguments.no_trace:
        raise InputError(
            "--url beside a reference declares a model's files", hint="add --no-trace, or leave out the reference"
        )
    if arguments.no_trace and not (arguments.url and arguments.entrypoints):
        raise InputError("--no-trace needs an entry point and its files", hint="add ENTRYPOINT --url URL")
    from hublock.actions.add import Wish, add_models
    from hublock.core.arguments import parse_keywords, parse_word

    wish = Wish(
        reference=arguments.reference,
        entrypoints=tuple(arguments.entrypoints),
        name=arguments.name,
        args=tuple(parse_word(text) for text in arguments.arg),
        kwargs=parse_keywords(arguments.kwarg),
        allow_unreachable=arguments.allow_unreachable,
        tolerate=tuple(arguments.tolerate),
        inputs=tuple(arguments.input),
        urls=tuple(arguments.url),
    )
    options = tracing.options(arguments, allow_pickle=arguments.allow_pickle)
    added = add_models(wish, face.new_project, face.context, options=options)
    if added.understood:
        face.console.say(added.understood)
    if added.offer:
        print_offer(added.offer, face.console)
        face.console.say(f"nothing was added: choose an entry point of {added.offer.name}")
        face.console.hint(f"hublock add {quote(arguments.reference)} ENTRYPOINT")
    if added.locking:
        tracing.report(added.locking, face.console)
        _say_if_unchanged(added.locking, face)
    return 0


def _add_weights(arguments: argparse.Namespace, face: Face) -> int:
    if len(arguments.url) == 1 and not arguments.name:
        raise InputError(
            "--url needs a name for the file", hint=f"hublock add --url {quote(arguments.url[0])} --name NAME"
        )
    if len(arguments.url) != 1:
        raise InputError(
            "what should be added?", hint="hublock add OWNER/REPO ENTRYPOINT, or hublock add --url URL --name NAME"
        )
    for option in ("arg", "kwarg", "input", "tolerate", "no_trace", "allow_unreachable"):
        if getattr(arguments, option):
            raise InputError(
                f"--{option.replace('_', '-')} belongs to a model, and no reference was given",
                hint="hublock add OWNER/REPO ENTRYPOINT …",
            )
    from hublock.actions.add import add_weights

    options = tracing.options(arguments, allow_pickle=arguments.allow_pickle)
    done = add_weights(arguments.name, arguments.url[0], face.new_project, face.context, options=options)
    tracing.report(done, face.console)
    _say_if_unchanged(done, face)
    if done.changed:
        item = done.lock.weights_by_name[arguments.name]
        face.console.done("Locked", f"{item.name}: {item.url}")
        face.console.say(f"          {counted(1, 'file')}, {size(item.size)}; {item.digest}")
    return 0


def _say_if_unchanged(done: "Locking", face: Face) -> None:
    if not done.changed:
        face.console.say(f"{face.project.manifest.name} and {face.project.lock.name} have that already")
