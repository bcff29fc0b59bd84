"""Changes of a lock as a comment on a pull request (GitHub Flavored Markdown).

Whatever comes from a lock or a repository is shown as code, so that nothing in it is markup, a link or a mention.
"""

import re
from collections.abc import Sequence

from hublock.core.changes import Change
from hublock.core.contract import ContractChange
from hublock.report import text


def report(changes: Sequence[Change], contracts: Sequence[tuple[str, ContractChange]]) -> str:
    """Return the whole comment."""
    if not changes:
        return "`hub.lock` pins what it pinned before.\n"
    alarming = [change for change in changes if change.alarming]
    entries = len({change.entry for change in changes})
    parts = [f"### `hub.lock`: {entries} {'entry' if entries == 1 else 'entries'} changed\n"]
    if alarming:
        lines = "".join(f"> - {code(change.entry)} {code(change.what)}\n" for change in alarming)
        parts.append(f"> [!WARNING]\n> Look twice: {text.LOOK_TWICE}.\n{lines}")
    parts.append(_table(changes))
    parts += [_contract(name, change) for name, change in contracts]
    return "\n".join(parts)


def code(value: str) -> str:
    """Return ``value`` as inline code, in a table cell too."""
    plain = "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in value).replace("|", "\\|")
    if not plain.strip():
        return ""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def _table(changes: Sequence[Change]) -> str:
    return "\n".join(["| entry | what | was | is |", "|---|---|---|---|", *map(_row, changes), ""])


def _row(change: Change) -> str:
    cells = (change.what, *text.shortened(change.old, change.new))
    return f"| {' | '.join([f'{_mark(change)} {code(change.entry)}', *map(code, cells)])} |"


def _mark(change: Change) -> str:
    return "⚠" if change.alarming else text.MARKS[change.kind]


def _contract(name: str, change: ContractChange) -> str:
    lines = "".join(f"- {code(line)}\n" for line in text.contract(change))
    return f"**What callers of {code(name)} find changed**\n\n{lines}"
