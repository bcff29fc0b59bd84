"""Changes as lines for a terminal."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from hublock.core.changes import Change
from hublock.core.contract import ContractChange

LONGEST = 300
"""Characters of a value that are shown."""
LOOK_TWICE = "other bytes at a known address, or a new right to run code"
"""What an alarming change is."""
MARKS = {"added": "+", "removed": "-", "changed": "~"}


def dated(commit: str, when: datetime | None) -> str:
    """Return a commit as a person knows it: ``3ac97aa91201 of 2024-10-16``."""
    return f"{commit[:12]} of {when:%Y-%m-%d}" if when else commit[:12]


def distance(commits: int | None, *, back: bool = False) -> str:
    """Return how far a pin moves: ``1 commit``; empty where nobody can tell."""
    if commits is None:
        return ""
    return f"{commits} {'commit' if commits == 1 else 'commits'}{' back' if back else ''}"


def contract(change: ContractChange | None) -> list[str]:
    """Return what callers of a repository find changed."""
    if change is None:
        return ["? the old source can no longer be had, so it is not known what changed"]
    found = [f"+ entry point {name}" for name in change.added]
    found += [f"- entry point {name}" for name in change.removed]
    found += [
        f"~ {row.name}{row.old or '(imported)'} -> {row.name}{row.new or '(imported)'}" for row in change.signatures
    ]
    found += [f"+ dependency {name}" for name in change.dependencies_added]
    found += [f"- dependency {name}" for name in change.dependencies_removed]
    found += [f"+ {url} in the source" for url in change.urls_added]
    found += [f"- {url} in the source" for url in change.urls_removed]
    if change.estimated:
        found.append("? hubconf.py makes names at run time and was only read: there may be more")
    return found or ["the entry points, their signatures, dependencies and weight URLs are the same"]


def changes(found: Sequence[Change]) -> Iterator[str]:
    """Yield the differences of two locks below the entries they are of; ``!`` asks to look twice."""
    entry = ""
    for change in found:
        if change.entry != entry:
            entry = change.entry
            yield _head(change)
        if change.what:
            mark = "!" if change.alarming else MARKS[change.kind]
            yield f"  {mark} {change.what}{_values(change)}"


def _head(change: Change) -> str:
    if change.what:
        return f"~ {change.entry}"
    return f"{MARKS[change.kind]} {change.entry}: {change.new or change.old}"


def shortened(old: str, new: str) -> tuple[str, str]:
    """Cut two long values around their first difference; ``…`` stands for what was cut."""
    start = 0
    if max(len(old), len(new)) > LONGEST:
        shorter = min(len(old), len(new))
        alike = next((at for at in range(shorter) if old[at] != new[at]), shorter)
        start = max(0, alike - LONGEST // 4)
    return _cut(old, start), _cut(new, start)


def _cut(value: str, start: int) -> str:
    end = start + LONGEST
    return f"{'…' if start else ''}{value[start:end]}{'…' if end < len(value) else ''}"


def _values(change: Change) -> str:
    old, new = shortened(change.old, change.new)
    if change.kind == "changed":
        return f": {old} -> {new}"
    return f": {new or old}" if new or old else ""
