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
        parts.append(
            f"> [!WARNING]\n> Look twice: other bytes at a known address, or a new right to run code.\n{lines}"
        )
    parts.append(_table(changes))
    parts += [_contract(name, change) for name, change in contracts]
    return "\n".join(parts)


def code(value: str) -> str:
    """Return ``value`` as inline code, in a table cell too."""
    plain = re.sub(r"\s+", " ", value).replace("|", "\\|")
    if not plain.strip():
        return ""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", plain)), default=0) + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def _table(changes: Sequence[Change]) -> str:
    rows = [
        f"| {_mark(change)} {code(change.entry)} | {code(change.what)} | {_short(change.old)} | {_short(change.new)} |"
        for change in changes
    ]
    return "\n".join(["| entry | what | was | is |", "|---|---|---|---|", *rows, ""])


def _mark(change: Change) -> str:
    return "⚠" if change.alarming else text.MARKS[change.kind]


def _short(value: str) -> str:
    """Shorten digests and commits, which the lock itself shows whole."""
    return code(re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1…", value)[:200])


def _contract(name: str, change: ContractChange) -> str:
    lines = "".join(f"- {code(line)}\n" for line in text.contract(change))
    return f"**What callers of {code(name)} find changed**\n\n{lines}"
