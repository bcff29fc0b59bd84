"""Git's conflict markers: writing them, and reading the two sides of a text that holds them (git-merge(1))."""

import difflib
import re


def with_markers(ours: str, theirs: str) -> str:
    """Return one text in which every stretch that differs stands twice, between git's conflict markers."""
    left, right = ours.splitlines(keepends=True), theirs.splitlines(keepends=True)
    parts = []
    for verb, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if verb == "equal":
            parts += left[a:b]
        else:
            parts += ["<<<<<<< ours\n", *left[a:b], "=======\n", *right[c:d], ">>>>>>> theirs\n"]
    return "".join(parts)


def sides(text: str) -> tuple[str, str] | None:
    """Return the two sides of a text with git's conflict markers, of two or three parts; None if it has none.

    Markers that do not follow each other as git writes them are left where they stand.
    """
    if not re.search(r"^<{7}(?: |$)", text, re.MULTILINE):
        return None
    left: list[str] = []
    right: list[str] = []
    into: tuple[list[str], ...] = (left, right)
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if re.match(r"<{7}(?: |$)", bare):
            into = (left,)
        elif re.match(r"\|{7}(?: |$)", bare) and into == (left,):
            into = ()
        elif bare == "=======" and into != (left, right):
            into = (right,)
        elif re.match(r">{7}(?: |$)", bare):
            into = (left, right)
        else:
            for part in into:
                part.append(line)
    return "".join(left), "".join(right)
