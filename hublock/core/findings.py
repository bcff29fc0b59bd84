"""What a check found, and what it means for the exit code."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hublock.errors import SEVERITY

Rule = Literal[
    "lock-missing",
    "lock-invalid",
    "manifest-invalid",
    "lock-stale",
    "lock-not-canonical",
    "lock-differs",
    "lock-untrue",
    "tree-missing",
    "tree-damaged",
    "tree-unreadable",
    "file-missing",
    "file-damaged",
    "file-unreadable",
    "state-differs",
    "state-missing",
    "load-unlocked",
    "load-failed",
    "upstream-branch-moved",
    "upstream-tag-moved",
    "upstream-rewritten",
    "upstream-renamed",
    "upstream-revision-moved",
    "upstream-ref-gone",
    "upstream-repository-gone",
    "upstream-commit-differs",
    "upstream-file-replaced",
    "upstream-file-gone",
    "upstream-unreachable",
]

RULES: dict[Rule, tuple[int, str]] = {
    "lock-missing": (4, "There is no lock."),
    "lock-invalid": (2, "The lock cannot be read."),
    "manifest-invalid": (2, "The manifest cannot be read."),
    "lock-stale": (1, "The lock does not answer the manifest."),
    "lock-not-canonical": (1, "The lock is not as hublock writes it."),
    "lock-differs": (1, "The lock differs from the one it is held against."),
    "lock-untrue": (3, "The lock says of a file what its bytes do not bear out."),
    "tree-missing": (4, "A source tree is not in the store."),
    "tree-damaged": (3, "A stored source tree is not the locked one."),
    "tree-unreadable": (7, "A stored source tree cannot be read."),
    "file-missing": (4, "A file is not in the store."),
    "file-damaged": (3, "The stored bytes of a file are not the locked ones."),
    "file-unreadable": (7, "A stored file cannot be read."),
    "state-differs": (3, "A loaded model has another state than the locked one."),
    "state-missing": (4, "The lock has no state to compare a loaded model with."),
    "load-unlocked": (4, "A model asked for what the lock does not name."),
    "load-failed": (6, "A model cannot be loaded here."),
    "upstream-branch-moved": (1, "A branch has moved on from the locked commit."),
    "upstream-tag-moved": (1, "A tag points to another commit than the locked one."),
    "upstream-rewritten": (1, "A branch no longer holds the locked commit in its history."),
    "upstream-renamed": (1, "A repository is called otherwise by now."),
    "upstream-revision-moved": (1, "A Hugging Face revision has moved on from the locked commit."),
    "upstream-ref-gone": (2, "A branch, tag or commit is gone."),
    "upstream-repository-gone": (2, "A repository is gone, or is not shown to us."),
    "upstream-commit-differs": (3, "The locked commit holds another tree than the locked one."),
    "upstream-file-replaced": (3, "A URL serves other bytes than the locked ones."),
    "upstream-file-gone": (5, "A URL serves nothing any more."),
    "upstream-unreachable": (5, "A host could not be asked."),
}
"""Each rule's exit code, which is that of the error a command meets in its place, and what it means."""


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
    file: str = ""
    """The file it stands in; empty where there is none to point at."""
    line: int | None = None
    """Counted from 1; None where it cannot be told."""

    @property
    def exit_code(self) -> int:
        """The exit code this finding asks for."""
        return RULES[self.rule][0]


def exit_code(codes: Iterable[int]) -> int:
    """Return the one exit code that stands for several: the first of 3, 2, 4, 7, 6, 5, 1; 0 for none."""
    seen = set(codes)
    return next((code for code in SEVERITY if code in seen), 0)
