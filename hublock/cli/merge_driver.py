"""``hublock merge-driver``."""

import argparse
from pathlib import Path

from hublock.cli.face import Face

SUMMARY = "merge two locks by entry; git calls it, see `hublock init --merge-driver`"
EXAMPLES = """\
  in .gitattributes:  hub.lock merge=hublock
  once in a clone:    hublock init --merge-driver
  exit 0 if all was merged, 1 if both sides changed one entry: then `hublock lock` recovers"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("base", type=Path, metavar="BASE", help="the common ancestor")
    parser.add_argument("ours", type=Path, metavar="OURS", help="our lock, which becomes the merged one")
    parser.add_argument("theirs", type=Path, metavar="THEIRS", help="their lock")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.merge import merge_files

    conflicts = merge_files(arguments.base, arguments.ours, arguments.theirs)
    if conflicts:
        face.console.warn(f"hub.lock: both sides changed {', '.join(conflicts)}")
        face.console.hint("merge the manifest, then hublock lock")
    return int(bool(conflicts))
