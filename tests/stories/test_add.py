"""What ``hublock add`` takes, and what it refuses before anything is asked for or run."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.forge import Forge
from tests.stories.conftest import Run

DECLARED = ("--no-trace", "--url", "https://example.org/net.pth")


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (
            ("--tolerate", "api.github.com"),
            '--tolerate: expected https://HOST or subprocess:PROGRAM, found "api.github.com"',
            "hublock add … --tolerate https://HOST, or --tolerate subprocess:PROGRAM",
        ),
        (
            ("--arg", "[" * 40 + "]" * 40),
            "hub.toml: line 4: nests deeper than 32 levels",
            "correct the command: hub.toml is as it was",
        ),
        (
            ("--name", "\udcff"),
            "hub.toml: models.\\udcff: cannot be written, because TOML cannot hold the lone surrogate U+DCFF",
            "correct the command: hub.toml is as it was",
        ),
        (
            ("--arg", "-1e-3"),
            "hublock add: argument --arg: expected one argument",
            "--arg=VALUE where it begins with a dash, such as --arg=-1e-3; hublock add --help",
        ),
    ],
)
def test_refuses_what_cannot_be_written_before_anything_is_fetched(
    pinned: Forge, project: Path, hub: Run, words: tuple[str, ...], sentence: str, hint: str
) -> None:
    before = {path: path.read_bytes() for path in project.iterdir()}
    asked = len(pinned.requests)

    done = hub("add", "b/branch", "big", "--name", "other", *DECLARED[:2], "https://example.org/x.pth", *words)

    assert str(done) == f"exit 2\n--- stdout\n--- stderr\nerror: {sentence}\n   hint: {hint}\n"
    assert {path: path.read_bytes() for path in project.iterdir()} == before
    assert not [request for request in pinned.requests[asked:] if request.host == "example.org"]


def test_what_is_given_twice_is_written_once(pinned: Forge, project: Path, hub: Run) -> None:
    twice = ("--input", "best.pt", "--input", "./best.pt", *DECLARED[1:], "--tolerate", "https://a.org")

    assert hub("add", "b/branch", "big", "--name", "other", *DECLARED, *twice, *twice[-2:]).code == 0

    model = tomllib.loads((project / "hub.toml").read_text())["models"]["other"]
    assert (model["inputs"], model["urls"], model["tolerate"]) == (["best.pt"], [DECLARED[2]], ["https://a.org"])


def test_the_same_add_with_another_case_of_a_name_of_github_changes_nothing(pinned: Forge, hub: Run) -> None:
    done = hub("add", "A/Tagged:v1", "net", *DECLARED, "--input", "best.pt")

    assert (done.code, done.err) == (0, "hub.toml and hub.lock have that already\n")
    assert hub("add", "A/tagged:V1", "net", *DECLARED, "--input", "best.pt").code == 2


def test_an_infinite_argument_is_a_literal_where_json_has_none(pinned: Forge, hub: Run) -> None:
    words = ("--name", "other", "--arg", "1e999", "--kwarg", "pretrained=[-1e999]")

    done = hub("add", "b/branch", "big", *DECLARED, *words)
    text = hub("list", "--format", "json").out

    assert "Locked other: big(1e999, pretrained=[-1e999]) of b/branch" in done.err
    assert "Infinity" not in text
    [row] = [row for row in json.loads(text)["models"] if row["name"] == "other"]
    assert (row["args"], row["kwargs"]) == ([{"python": "1e999"}], {"pretrained": [{"python": "-1e999"}]})
