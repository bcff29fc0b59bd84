"""``hublock outdated``."""

import argparse
import shlex
from typing import TYPE_CHECKING

from hublock.cli.face import Face

if TYPE_CHECKING:
    from hublock.actions.moves import Move
    from hublock.core.findings import Finding

SUMMARY = "list what `hublock update` would move; exit 1 if there is anything"
EXAMPLES = """\
  hublock outdated
  hublock outdated --format json"""

WORDS = {
    "ahead": " behind",
    "unproven": ", moved; its host cannot show from where",
    "rewritten": ", rewritten: the locked commit is not in its history",
    "retagged": ", the tag was moved",
}
STRAYED = ", the lock follows another ref"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how the list is printed")


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.outdated import outdated
    from hublock.core.findings import exit_code

    if face.project.manifest.exists():
        # before anybody is asked, and anything is said to be right
        face.project.read_manifest()
    found = outdated(face.project, face.context)
    if arguments.format == "json":
        rows = [_row(move) for move in found.moved]
        notes = [{"repository": told.subject, **_told(told)} for told in found.repositories]
        files = [{"url": told.subject, **_told(told)} for told in found.files]
        face.console.json({"repositories": rows, "notes": notes, "files": files})
    else:
        _print(found.moved, face)
        for finding in found.findings:
            face.console.data(finding.message)
        if not (found.moved or found.findings):
            face.console.say(f"{face.project.lock.name} is up to date, as far as hosts tell without fetching files")
            face.warn_if_stale(face.project.read_lock())
        hints = [_preview(found.moved)] if found.moved else []
        hints += [finding.hint for finding in found.findings]
        for hint in dict.fromkeys(hints):
            face.console.hint(hint)
    # a file with other bytes is news here, and an integrity failure only to who verifies
    codes = [1 if finding.rule.startswith("upstream-file") else finding.exit_code for finding in found.findings]
    return exit_code([*(1 for _ in found.moved), *codes])


def _print(moved: "tuple[Move, ...]", face: Face) -> None:
    from hublock.report import text

    rows = []
    for move in moved:
        history, far = move.history, text.distance(move.history.commits)
        old = text.dated(move.repo.commit, history.before)
        new = text.dated(move.resolved.commit, history.committed)
        words = STRAYED if move.strayed and move.surprising else WORDS[move.trend]
        rows.append((move.repo.id, f"{old} -> {new}", f"{far}{words}".lstrip(", ")))
    face.console.table(rows)


def _preview(moved: "tuple[Move, ...]") -> str:
    """Return the command that shows what moving would change; nothing is written, so that nothing need be allowed."""
    allow = ["--allow-rewritten"] if any(move.surprising for move in moved) else []
    return f"hublock update {shlex.join([*(move.repo.id for move in moved), '--dry-run', *allow])}"


def _told(finding: "Finding") -> dict[str, str]:
    return {"rule": finding.rule, "message": finding.message, "hint": finding.hint}


def _row(move: "Move") -> dict[str, object]:
    history = move.history
    return {
        "repository": move.repo.id,
        "models": [model.name for model in move.repo.models],
        "ref": move.resolved.ref,
        "locked": move.repo.commit,
        "locked-date": history.before.isoformat() if history.before else None,
        "latest": move.resolved.commit,
        "latest-date": history.committed.isoformat() if history.committed else None,
        "commits": history.commits,
        "trend": move.trend,
        "renamed-to": str(move.resolved.moved) if move.resolved.moved else None,
    }
