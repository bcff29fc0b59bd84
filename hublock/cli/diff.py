"""``hublock diff``."""

import argparse
from dataclasses import asdict

from hublock.cli.face import Face, given

SUMMARY = "show a reviewer how hub.lock differs from that of a commit or another file"
EXAMPLES = """\
  hublock diff                          against HEAD
  hublock diff origin/main --format markdown    for a pull request comment
  hublock diff ../other/hub.lock --exit-code"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "against", nargs="?", type=given, metavar="GIT-REV|FILE", help="what to compare with (default: HEAD)"
    )
    parser.add_argument(
        "--format", choices=("text", "markdown", "json"), default="text", help="how the changes are printed"
    )
    parser.add_argument("--exit-code", action="store_true", help="exit 1 if there are changes, as git diff does")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.diff import diff
    from hublock.report import markdown, text

    found = diff(face.project, face.context, against=arguments.against)
    if arguments.format == "json":
        contracts = {name: asdict(change) for name, change in found.contracts}
        face.console.json({"changes": [asdict(change) for change in found.changes], "contracts": contracts})
    elif arguments.format == "markdown":
        face.console.text(markdown.report(found.changes, found.contracts).rstrip("\n"))
    else:
        for line in text.changes(found.changes):
            face.console.data(line)
        for name, change in found.contracts:
            face.console.data(f"~ what callers of {name} find")
            for line in text.contract(change):
                face.console.data(f"  {line}")
        if not found.changes:
            face.console.say(f"{face.project.lock.name} pins what it pinned before")
    return int(arguments.exit_code and bool(found.changes))
