"""``hublock cache``."""

import argparse
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hublock.cli.console import counted, size
from hublock.cli.face import Face, common_options, repeatable, sentence
from hublock.errors import InputError

if TYPE_CHECKING:
    from hublock.core.lockfile import Lock
    from hublock.store.pruning import Held

SUMMARY = "look into the store, check it, and clear away what no lock needs"
EXAMPLES = """\
  hublock cache dir                        where the store is
  hublock cache list                       what it holds, and what this project calls it
  hublock cache verify                     hash all of it again
  hublock cache prune --older-than 30d     remove what this project does not need and nobody used for 30 days
  hublock cache prune --keep-lock a/hub.lock --keep-lock b/hub.lock
  hublock cache key                        a name for a CI cache: changes when hub.lock names other bytes"""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
IN_USE = "1h"
"""What was used this recently stays by default: another command may be working with it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    common = common_options()
    for name, (call, summary) in ACTIONS.items():
        action = actions.add_parser(
            name, parents=[common], help=summary, description=sentence(summary), allow_abbrev=False
        )
        action.set_defaults(action=call, parser=action)
        if name == "prune":
            _configure_prune(action)


def _configure_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--older-than", metavar="AGE", help=f"only what nobody used for so long: 12h, 30d, 2w (default: {IN_USE})"
    )
    repeatable(parser, "--keep-lock", metavar="FILE", type=Path, help="keep what this lock names, too")
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, say what would go")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    code: int = arguments.action(arguments, face)
    return code


def _dir(_: argparse.Namespace, face: Face) -> int:
    face.console.data(str(face.context.store.root))
    return 0


def _size(_: argparse.Namespace, face: Face) -> int:
    from hublock.actions.cache import everything

    held = everything(face.context)
    unfinished = sum(item.size for item in held if item.kind == "partial")
    rest = f", {size(unfinished)} of it unfinished" if unfinished else ""
    face.console.data(f"{size(sum(item.size for item in held))} in {' and '.join(_kinds(held))}{rest}")
    return 0


def _kinds(held: "Sequence[Held]") -> list[str]:
    return [counted(sum(item.kind == kind for item in held), kind) for kind in ("tree", "file")]


def _list(_: argparse.Namespace, face: Face) -> int:
    from hublock.actions.cache import listed

    face.console.table(
        (
            str(held.digest)[:23],
            size(held.size),
            time.strftime("%Y-%m-%d", time.localtime(held.used)),
            ", ".join(names) or "-",
        )
        for held, names in listed(face.context, _own_lock(face))
    )
    return 0


def _verify(_: argparse.Namespace, face: Face) -> int:
    from hublock.actions.cache import check, everything
    from hublock.core.findings import exit_code

    wrong = check(face.context)
    for error in wrong:
        face.console.error(error)
    if not wrong:
        held = [item for item in everything(face.context) if item.kind != "partial"]
        face.console.done("Verified", f"{', '.join(_kinds(held))}, {size(sum(item.size for item in held))}")
    return exit_code(error.exit_code for error in wrong)


def _prune(arguments: argparse.Namespace, face: Face) -> int:
    from hublock.actions.cache import tidy
    from hublock.actions.project import read_named_lock

    keep = [
        *_own_lock(face),
        *(read_named_lock(path, hint="check the path of --keep-lock") for path in arguments.keep_lock),
    ]
    if not keep and arguments.older_than is None:
        raise InputError(
            "nothing says what the store shall keep: no lock here, no --keep-lock, no --older-than",
            hint="hublock cache prune --older-than 30d",
        )
    before = time.time() - seconds(IN_USE if arguments.older_than is None else arguments.older_than)
    gone = tidy(face.context, keep, before=before, pretend=arguments.dry_run)
    for item in gone:
        face.console.note(f"{item.digest or item.path.name}  {size(item.size)}")
    verb = "Would remove" if arguments.dry_run else "Removed"
    face.console.done(verb, f"{counted(len(gone), 'item')}, {size(sum(item.size for item in gone))}")
    return 0


def _key(_: argparse.Namespace, face: Face) -> int:
    from hublock.actions.project import read_named_lock
    from hublock.core.inventory import cache_key

    face.console.data(cache_key(read_named_lock(face.project.lock)))
    return 0


def _own_lock(face: Face) -> "list[Lock]":
    """Return the lock of the project, if there is a project and it has one."""
    project = face.new_project
    return [project.read_lock()] if project.lock.exists() else []


def seconds(age: str) -> float:
    """Return the seconds of an age such as ``12h`` or ``30d``.

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", age)
    if match is None:
        raise InputError(f"{age!r} is no age", hint="hublock cache prune --older-than 30d (s, m, h, d or w)")
    return float(int(match[1]) * SECONDS[match[2]])


ACTIONS: dict[str, tuple[Callable[[argparse.Namespace, Face], int], str]] = {
    "dir": (_dir, "print the folder of the store"),
    "size": (_size, "print how much the store holds"),
    "list": (_list, "print what the store holds"),
    "verify": (_verify, "hash everything in the store again"),
    "prune": (_prune, "remove what no kept lock names"),
    "key": (_key, "print a name for a CI cache of what hub.lock needs"),
}
