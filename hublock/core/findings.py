"""What a check found, and what it means for the exit code."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hublock.errors import SEVERITY

Rule = Literal[
    "lock-stale",
    "lock-not-canonical",
    "tree-missing",
    "tree-damaged",
    "file-missing",
    "file-damaged",
]

EXIT_CODES: dict[Rule, int] = {
    "lock-stale": 1,
    "lock-not-canonical": 1,
    "tree-missing": 4,
    "tree-damaged": 3,
    "file-missing": 4,
    "file-damaged": 3,
}
"""Each rule's exit code (0 fine, 1 differs, 3 integrity, 4 not in the store)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as the lock says."""

    rule: Rule
    subject: str
    """What it is about: a file, a model, a repository or a URL."""
    message: str
    """One sentence."""
    hint: str
    """The command that fixes it."""

    @property
    def exit_code(self) -> int:
        """The exit code this finding asks for."""
        return EXIT_CODES[self.rule]


def exit_code(codes: Iterable[int]) -> int:
    """Return the one exit code that stands for several: the first of 3, 2, 4, 7, 6, 5, 1; 0 for none."""
    seen = set(codes)
    return next((code for code in SEVERITY if code in seen), 0)
