"""What a check found, and what it means for the exit code."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from hublock.errors import SEVERITY


class Rule(StrEnum):
    """What a check may find: its name, the exit code of the error that a command meets in its place, what it means."""

    exit_code: int
    meaning: str

    def __new__(cls, name: str, exit_code: int, meaning: str) -> Self:
        """Make a rule that is its name."""
        rule = str.__new__(cls, name)
        rule._value_, rule.exit_code, rule.meaning = name, exit_code, meaning
        return rule

    LOCK_MISSING = "lock-missing", 4, "There is no lock."
    LOCK_INVALID = "lock-invalid", 2, "The lock cannot be read."
    MANIFEST_INVALID = "manifest-invalid", 2, "The manifest cannot be read."
    LOCK_STALE = "lock-stale", 1, "The lock does not answer the manifest."
    LOCK_NOT_CANONICAL = "lock-not-canonical", 1, "The lock is not as hublock writes it."
    LOCK_DIFFERS = "lock-differs", 1, "The lock differs from the one it is held against."
    LOCK_UNTRUE = "lock-untrue", 3, "The lock says of a file what its bytes do not bear out."
    TREE_MISSING = "tree-missing", 4, "A source tree is not in the store."
    TREE_DAMAGED = "tree-damaged", 3, "A stored source tree is not the locked one."
    TREE_UNREADABLE = "tree-unreadable", 7, "A stored source tree cannot be read."
    FILE_MISSING = "file-missing", 4, "A file is not in the store."
    FILE_DAMAGED = "file-damaged", 3, "The stored bytes of a file are not the locked ones."
    FILE_UNREADABLE = "file-unreadable", 7, "A stored file cannot be read."
    INPUT_DIFFERS = "input-differs", 1, "A file that is handed to a model is not the locked one."
    STATE_DIFFERS = "state-differs", 3, "A loaded model has another state than the locked one."
    STATE_MISSING = "state-missing", 4, "The lock has no state to compare a loaded model with."
    LOAD_UNLOCKED = "load-unlocked", 4, "A model asked for what the lock does not name."
    LOAD_FAILED = "load-failed", 6, "A model cannot be loaded here."
    UPSTREAM_BRANCH_MOVED = "upstream-branch-moved", 1, "A branch has moved on from the locked commit."
    UPSTREAM_TAG_MOVED = "upstream-tag-moved", 1, "A tag points to another commit than the locked one."
    UPSTREAM_REWRITTEN = "upstream-rewritten", 1, "A branch no longer holds the locked commit in its history."
    UPSTREAM_RENAMED = "upstream-renamed", 1, "A repository is called otherwise by now."
    UPSTREAM_REVISION_MOVED = "upstream-revision-moved", 1, "A Hugging Face revision has left the locked commit."
    UPSTREAM_REF_GONE = "upstream-ref-gone", 2, "A branch, tag or commit is gone."
    UPSTREAM_REPOSITORY_GONE = "upstream-repository-gone", 2, "A repository is gone, or is not shown to us."
    UPSTREAM_COMMIT_DIFFERS = "upstream-commit-differs", 3, "The locked commit holds another tree than the locked one."
    UPSTREAM_FILE_REPLACED = "upstream-file-replaced", 3, "A URL serves other bytes than the locked ones."
    UPSTREAM_FILE_GONE = "upstream-file-gone", 5, "A URL serves nothing any more."
    UPSTREAM_UNREACHABLE = "upstream-unreachable", 5, "A host could not be asked."


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
        return self.rule.exit_code


def exit_code(codes: Iterable[int]) -> int:
    """Return the one exit code that stands for several: the first of 3, 2, 4, 7, 6, 5, 1; 0 for none."""
    seen = set(codes)
    return next((code for code in SEVERITY if code in seen), 0)
