"""The schemas judge every good and bad file as the parsers do.

What no schema can say stands in ``bad/beyond-schema``: relations between entries (two names, ids, rows or digests),
nesting, Python literals and markers inside strings, what a requirement may say of versions and markers beyond its
shape, which letters beyond ASCII a Python name may have, nan, and whether a number is an integer of 64 bits. The test
below keeps that folder as small as it can be: each file in it must be one that the schema accepts.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from hublock.core import fields
from hublock.core.canonical import dump_lock
from hublock.core.lockfile import Lock
from hublock.core.tables import Cell, Source
from hublock.errors import InvalidLock
from tests.core.strategies import LOCKS

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


def schema(name: str) -> Any:
    return json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))


VALIDATORS = {
    "locks": Draft202012Validator(schema("hub-lock")),
    "manifests": Draft202012Validator(schema("hub-manifest")),
}


def files(kind: str) -> list[Path]:
    return sorted(path for end in ("lock", "toml") for path in DATA.glob(f"*/{kind}/**/*.{end}"))


def name_of(path: Path) -> str:
    return path.relative_to(DATA).as_posix()


def accepted(path: Path) -> bool:
    try:
        table: Any = tomllib.loads(path.read_bytes().decode())
    except tomllib.TOMLDecodeError:
        return False
    if path.parent.name == "embedded":
        table = table.get("tool", {}).get("hublock", {})
    return bool(VALIDATORS[path.relative_to(DATA).parts[0]].is_valid(table))


@pytest.mark.parametrize("name", ["hub-lock", "hub-manifest"])
def test_the_schema_is_one_of_draft_2020_12(name: str) -> None:
    assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("name", ["hub-lock", "hub-manifest"])
def test_every_definition_of_a_schema_is_used(name: str) -> None:
    text = json.dumps(schema(name))
    assert [key for key in schema(name)["$defs"] if f'"#/$defs/{key}"' not in text] == []


@pytest.mark.parametrize("path", files("good"), ids=name_of)
def test_accepts_what_the_parser_accepts(path: Path) -> None:
    assert accepted(path)


@pytest.mark.parametrize("path", files("bad"), ids=name_of)
def test_refuses_what_the_parser_refuses_as_far_as_a_schema_can(path: Path) -> None:
    assert accepted(path) == (path.parent.name == "beyond-schema")


def test_there_is_a_bad_file_for_every_refusal() -> None:
    assert len(list((DATA / "locks" / "bad").rglob("*.lock"))) >= 100
    assert len(list((DATA / "manifests" / "bad").rglob("*.toml"))) >= 50


@given(LOCKS)
@settings(max_examples=60)
def test_accepts_any_lock_we_write(lock: Lock) -> None:
    problem = next(VALIDATORS["locks"].iter_errors(tomllib.loads(dump_lock(lock))), None)
    assert problem is None


DEFINITIONS = schema("hub-lock")["$defs"]
RULES: dict[str, Callable[[Cell], object]] = {
    "name": fields.name,
    "entrypoint": fields.entrypoint,
    "reference": fields.reference,
    "url": fields.url,
    "refusal": fields.tolerated,
    "relative": fields.relative,
    "path": fields.path,
    "word": fields.word,
    "commit": fields.commit,
    "sha256": fields.digest("sha256"),
}
PIECES = st.sampled_from([
    *("a", "B", "ü", "0", ".", "..", "/", "//", ":", "@", "?", "#", "\\", "~", "-", "_", "{", "^", "[", "]"),
    *(":80", ":x", "C:", ".lock", "git+https://", "git+ssh://", "git+file:///", "http://", "https://", "file:///"),
    *("subprocess:", "o/r", "host", "sha256:", " ", "\t", "\x7f", "0" * 40),
])  # fmt: skip
"""Never the end of a line: before it, ``$`` matches in Python, but not in the patterns that JSON Schema speaks of."""


def passes(rule: Callable[[Cell], object], text: str) -> bool:
    try:
        rule(Cell(text, Source("f", InvalidLock, "")))
    except InvalidLock:
        return False
    return True


@pytest.mark.parametrize("name", RULES)
@given(st.lists(PIECES, max_size=7).map("".join))
@settings(max_examples=400)
def test_a_pattern_of_the_schema_says_what_the_rule_of_the_parser_says(name: str, text: str) -> None:
    one = VALIDATORS["locks"].evolve(schema={"$defs": DEFINITIONS, "$ref": f"#/$defs/{name}"})
    assert one.is_valid(text) == passes(RULES[name], text)


REQUIREMENTS = st.sampled_from([
    *("a", "_", "-", ".", "1", "0", ".*", "==", ">=", "<", "~=", "!=", ",", " ", "(", ")", "[", "]", "@", ";", "+cpu"),
    *("https://h/x", 'os_name=="x"', "rc", "post", "v", "!", "\t", "\v"),
])  # fmt: skip


@given(st.lists(REQUIREMENTS, max_size=6).map("".join))
@example(" ()")
@example("===1.0/x")
@example("===1.0/x ,<3")
@settings(max_examples=1000)
def test_the_pattern_of_a_requirement_lets_all_pass_that_the_parser_reads(rest: str) -> None:
    one = VALIDATORS["locks"].evolve(schema={"$defs": DEFINITIONS, "$ref": "#/$defs/requirement"})
    assert one.is_valid(f"torch{rest}") or not passes(fields.requirement, f"torch{rest}")
