"""``hublock list``."""

import argparse
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from hublock.cli.console import Console, size
from hublock.cli.face import Face
from hublock.errors import InputError

if TYPE_CHECKING:
    from hublock.actions.offers import Offer
    from hublock.core.lockfile import Model, Repo

SUMMARY = "list the locked models, or the entry points of a repository"
EXAMPLES = """\
  hublock list                          the models of this project
  hublock list pytorch/vision:v0.20.1   the entry points of a repository
  hublock list .                        those of the hubconf.py in this folder
  hublock list pytorch/vision --weights estimate the files it fetches, running nothing
  hublock list --format json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("reference", nargs="?", metavar="REF", help="owner/repo[:ref], git+https://…[@ref] or a folder")
    parser.add_argument(
        "--weights", action="store_true", help="estimate, without running anything, which files it fetches"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how the list is printed")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    if arguments.reference is None and arguments.weights:
        raise InputError("--weights needs a repository", hint="hublock list OWNER/REPO --weights")
    if arguments.reference is None:
        return _list_models(arguments, face)
    if arguments.weights:
        return _list_weights(arguments, face)
    offer = offer_of(arguments.reference, face)
    if arguments.format == "json":
        from inspect import cleandoc

        rows = [{"name": e.name, "signature": e.signature, "doc": e.doc and cleandoc(e.doc)} for e in offer.entrypoints]
        face.console.json({"repository": offer.name, "estimated": offer.estimated, "entrypoints": rows})
    else:
        print_offer(offer, face.console)
    return 0


def _list_weights(arguments: argparse.Namespace, face: Face) -> int:
    from hublock.actions.sources import reader_of
    from hublock.core.hints import find_urls
    from hublock.core.reference import Reference

    project = face.new_project
    reference, lock = Reference.parse(arguments.reference), project.read_lock()
    urls = find_urls(reader_of(reference, lock, face.context, base=project.folder))
    if arguments.format == "json":
        face.console.json({"repository": arguments.reference, "estimated": True, "urls": list(urls)})
        return 0
    for url in urls:
        face.console.data(url)
    face.console.say("an estimate from reading the code: `hublock add` runs it and knows")
    return 0


def offer_of(text: str, face: Face) -> "Offer":
    """Return what a reference or a folder offers."""
    from hublock.actions.describe import offer_of_reference
    from hublock.actions.offers import offer_of_folder
    from hublock.core.reference import Reference

    reference = Reference.parse(text)
    if reference.kind == "local" and Path(reference.location).expanduser().is_dir():
        return offer_of_folder(Path(reference.location).expanduser())
    project = face.new_project
    return offer_of_reference(reference, project.read_lock(), face.context, base=project.folder)


def print_offer(offer: "Offer", console: Console) -> None:
    """Print entry points with the first line of what they say of themselves."""
    console.table((_cut(f"{e.name}{e.signature}"), _first_line(e.doc)) for e in offer.entrypoints)
    if not offer.entrypoints and not offer.estimated:
        console.say(f"{offer.name} offers no entry points")
    if offer.estimated:
        console.say(f"{offer.name} builds entry points at run time and was only read: some may be missing")
        console.hint(f"hublock add {quote(offer.name)} ENTRYPOINT takes those as well")


def _first_line(doc: str | None) -> str:
    # what stands there of a partial is not its author's
    return "" if doc is None or doc == partial.__doc__ else doc.strip().partition("\n")[0]


def _cut(call: str) -> str:
    """Leave out the end of what would push every line apart; `hublock help` shows it."""
    return call if len(call) <= _WIDEST else f"{call[: _WIDEST - 1]}…"


_WIDEST = 72
"""Columns for an entry point and its parameters."""


def _list_models(arguments: argparse.Namespace, face: Face) -> int:
    lock = face.project.read_lock()
    models = sorted(((repo, model) for repo in lock.repos for model in repo.models), key=lambda pair: pair[1].name)
    if arguments.format == "json":
        weights = [{"name": w.name, "url": w.url, "digest": str(w.digest), "size": w.size} for w in lock.weights]
        face.console.json({"models": [_row(repo, model) for repo, model in models], "weights": weights})
        return 0
    rows = [(m.name, f"{r.id} {m.entrypoint}", r.commit[:12], size(_size(m))) for r, m in models]
    rows += [(w.name, w.url, "", size(w.size)) for w in lock.weights]
    if rows:
        face.console.table(rows)
    else:
        wanted = face.project.manifest.exists() and face.project.read_manifest().names
        face.console.say("nothing is locked yet" if wanted else "nothing is locked")
        face.console.hint("hublock lock" if wanted else "hublock add OWNER/REPO ENTRYPOINT")
    return 0


def _size(model: "Model") -> int:
    return sum(file.size for file in (*model.fetched, *model.inputs))


def _row(repo: "Repo", model: "Model") -> dict[str, object]:
    from hublock.core.arguments import in_json
    from hublock.core.inventory import address

    return {
        "name": model.name,
        "repository": repo.id,
        "commit": repo.commit,
        "entrypoint": model.entrypoint,
        "args": in_json(list(model.args)),
        "kwargs": in_json(dict(model.kwargs)),
        "traced": model.traced,
        "size": _size(model),
        "weights": [{"url": w.url, "digest": str(w.digest), "size": w.size} for w in model.weights],
        "hf": [{"url": address(f), "digest": str(f.digest), "size": f.size} for f in model.hf],
        "inputs": [{"name": i.name, "digest": str(i.digest), "size": i.size} for i in model.inputs],
    }
