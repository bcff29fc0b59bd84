"""Source of others is parsed beside other threads, and nobody hears what the parser would say of its style."""

import ast
import sys
import threading
import warnings
from typing import Any, cast

import pytest

from hublock.core.syntax import parse

ODD = b"x = '\\d'\ny = 1 is 1\n" + b"def f(a):\n    return a + 1\n" * 200
"""What Python warns of when it parses it."""


def test_warns_of_a_named_file_alone() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        parse(ODD)
        assert heard == []
        parse(ODD, "named.py")
    assert {warning.filename for warning in heard} == {"named.py"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ast.dump(parse(ODD)) == ast.dump(parse(b"x = r'\\d'\n" + ODD.partition(b"\n")[2]))


def test_what_was_said_once_of_another_file_is_not_said_again() -> None:
    with warnings.catch_warnings(record=True) as heard:
        for _ in range(3):
            # as libraries add filters while they are imported
            cast("Any", warnings.filters).insert(0, ("default", None, UserWarning, None, 0))
            parse(ODD)
            warnings.warn("said", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["said"]


def test_leaves_the_filters_of_others_as_they_are_in_many_threads() -> None:
    interval = sys.getswitchinterval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse("1")
        before = list(warnings.filters)
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=lambda: [parse(ODD) for _ in range(30)]) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert list(warnings.filters) == before


def test_parses_again_what_another_thread_has_upset(monkeypatch: pytest.MonkeyPatch) -> None:
    original, upset = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=102, after=99)")]

    def parse_beside_others(*source: str) -> ast.AST:
        if upset:
            raise upset.pop()
        return original(*source)

    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", parse_beside_others)
        assert ast.unparse(parse("x = 1")) == "x = 1"
    assert not upset
