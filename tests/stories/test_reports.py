"""Findings for machines: JSON, annotations on GitHub, SARIF; and what else verify can be held against."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from hublock.cli.console import size
from hublock.core.findings import Finding, Rule
from tests.forge import Forge
from tests.stories.conftest import Run, hublock

SARIF = json.loads((Path(__file__).parent.parent / "data" / "sarif" / "subset.schema.json").read_text())


@pytest.fixture
def tampered(pinned: Forge, project: Path) -> Path:
    """A project of which the lock was edited by hand, a file is missing, and the manifest wants more."""
    lock = project / "hub.lock"
    digest = next(line for line in lock.read_text().splitlines() if "big.pth" in line).partition("sha256:")[2][:64]
    lock.write_text(lock.read_text().replace(digest, "0" * 64).replace("version = 1", "version = 1  # 100%, mine"))
    manifest = project / "hub.toml"
    manifest.write_text(manifest.read_text() + '\n[weights.more]\nurl = "https://example.org/more"\n')
    return project


def line_of(project: Path, text: str) -> int:
    lines = (project / "hub.lock").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_github_shows_each_finding_beside_its_line(tampered: Path, hub: Run) -> None:
    done = hub("verify", "--format", "github")

    line = line_of(tampered, "big.pth")
    assert done.code == 4
    assert done.err == ""
    assert done.out == (
        "::warning file=hub.lock,line=1,title=hublock%3A lock-not-canonical::<project>/hub.lock was edited by hand: "
        "it is not as hublock writes it%0Ahint: git diff hub.lock, then hublock lock\n"
        "::warning file=hub.lock,line=1,title=hublock%3A lock-stale::<project>/hub.lock does not answer the manifest: "
        "weights more are not locked yet%0Ahint: hublock lock\n"
        f"::error file=hub.lock,line={line},title=hublock%3A file-missing::https://example.org/big.pth is not in the "
        "store%0Ahint: hublock sync\n"
    )


def test_github_escapes_what_would_end_a_command() -> None:
    from hublock.report import github

    finding = Finding(
        rule=Rule.FILE_MISSING, subject="x", message="50%\r\n::error::y", hint="z", file="a:b,c%.lock", line=2
    )

    assert github.lines([finding]) == [
        "::error file=a%3Ab%2Cc%25.lock,line=2,title=hublock%3A file-missing::50%25%0D%0A::error::y%0Ahint: z"
    ]


def test_json_tells_how_much_was_checked(pinned: Forge, hub: Run) -> None:
    checked = json.loads(hub("verify", "--format", "json").out)["checked"]
    told = f"{checked['models']} models, {checked['trees']} trees, {checked['files']} files, {size(checked['size'])}"
    assert hub("verify").err == f" Verified {told}\n"


def test_json_names_file_and_line(tampered: Path, hub: Run) -> None:
    report = json.loads(hub("verify", "--format", "json").out)

    assert (report["ok"], report["exit-code"]) == (False, 4)
    assert [(f["rule"], f["file"], f["line"]) for f in report["findings"]] == [
        ("lock-not-canonical", "hub.lock", None),
        ("lock-stale", "hub.lock", None),
        ("file-missing", "hub.lock", line_of(tampered, "big.pth")),
    ]


def sarif(text: str) -> Any:
    log = json.loads(text)
    jsonschema.validate(log, SARIF, format_checker=jsonschema.FormatChecker())
    return log["runs"][0]


def test_sarif_is_valid_and_points_at_the_entry(tampered: Path, hub: Run) -> None:
    run = sarif(hub("verify", "--format", "sarif").out)

    [missing] = [result for result in run["results"] if result["ruleId"] == "file-missing"]
    place = missing["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "hub.lock"},
        "region": {"startLine": line_of(tampered, "big.pth")},
    }
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_tells_stale_entries_apart_wherever_the_project_lies(
    tampered: Path, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tampered / "hub.toml"
    manifest.write_text(manifest.read_text() + '\n[weights.other]\nurl = "https://example.org/other"\n')

    def identities(project: Path) -> list[str]:
        monkeypatch.chdir(project)
        results = sarif(inside("verify", "--format", "sarif").out)["results"]
        return [result["partialFingerprints"]["hublock/v1"] for result in results]

    found = identities(tampered)
    assert len(found) == len(set(found)) == 4
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tampered, elsewhere)
    assert identities(elsewhere) == found


def test_a_stale_entry_is_shown_on_its_line(pinned: Forge, project: Path, hub: Run) -> None:
    (project / "hub.toml").write_text("")

    findings = json.loads(hub("verify", "--format", "json").out)["findings"]

    lines = {finding["subject"]: finding["line"] for finding in findings if finding["rule"] == "lock-stale"}
    assert lines["model big"] == line_of(project, 'name = "big"')


def test_sarif_without_findings_is_valid(pinned: Forge, hub: Run) -> None:
    assert sarif(hub("verify", "--format", "sarif").out)["results"] == []


@pytest.mark.parametrize("format", ["json", "github", "sarif"])
@pytest.mark.parametrize(
    ("file", "text", "code", "rule", "line"),
    [
        ("hub.lock", "version = 1\n[[repo]\n", 2, "lock-invalid", 2),
        ("hub.lock", "version = 2\n", 2, "lock-invalid", None),
        ("hub.lock", None, 4, "lock-missing", None),
        ("hub.toml", "[models]\nx = 1\n", 2, "manifest-invalid", None),
        ("hub.toml", "\udce9 is not UTF-8", 2, "manifest-invalid", None),
    ],
)
def test_what_cannot_be_read_is_a_finding_for_machines(
    pinned: Forge, project: Path, hub: Run, format: str, file: str, text: str | None, code: int, rule: str, line: int
) -> None:
    (project / file).unlink()
    if text is not None:
        (project / file).write_bytes(os.fsencode(text))

    done = hub("verify", "--format", format)

    assert (done.code, done.err) == (code, "")
    if format == "json":
        [found] = json.loads(done.out)["findings"]
        assert (found["rule"], found["file"], found["line"]) == (rule, file, line)
    elif format == "sarif":
        assert [result["ruleId"] for result in sarif(done.out)["results"]] == [rule]
    else:
        assert done.out.startswith(f"::error file={file},line={line or 1},title=hublock%3A {rule}::")


def test_a_broken_lock_to_compare_with_is_not_told_as_ours(pinned: Forge, project: Path, hub: Run) -> None:
    other = project / "other.lock"
    other.write_text("version = 1\nxx")

    done = hub("verify", "--against", str(other), "--format", "github")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: <project>/other.lock: ")


def test_against_another_lock_names_every_difference(pinned: Forge, project: Path, hub: Run) -> None:
    other = project / "other.lock"
    other.write_text((project / "hub.lock").read_text().replace("size = 10", "size = 11"))

    assert hub("verify", "--against", "hub.lock").code == 0
    done = hub("verify", "--against", "other.lock")
    assert done.code == 1
    assert "hub.lock differs from other.lock in weights backbone file https://example.org/backbone.bin: " in done.err
    assert "hint: hublock diff other.lock" in done.err
    missing = hub("verify", "--against", "nowhere.lock")
    assert (missing.code, "nowhere.lock does not exist" in missing.err) == (4, True)


def test_a_model_that_fails_to_load_proves_nothing_and_hides_nothing_that_is_found_of_others(
    added: object, served: Forge, project: Path, run: Run, tmp_path: Path
) -> None:
    hubconf = f"""
import os, sys, threading, torch
def late():
    threading.main_thread().join()
    print("nor what its threads print")
def broken(pretrained=False):
    print("what it prints is no finding")
    if os.path.exists({str(tmp_path / "fails")!r}):
        threading.Thread(target=late).start()
        os._exit(0)
    return torch.nn.Linear(1, 1)
def random():
    os.system("echo nor what its programs print")
    print("nor what it prints past us", file=sys.__stdout__, flush=True)
    return torch.nn.Linear(1, 1)
def closes():
    if os.path.exists({str(tmp_path / "fails")!r}):
        os.closerange(3, 1000)
    return torch.nn.Linear(1, 1)
"""
    served.repo("someone/fails", {"hubconf.py": hubconf})
    assert run("add", "someone/fails", "broken", "random", "closes", "--no-confirm").code == 0
    (tmp_path / "fails").touch()
    lock = project / "hub.lock"
    state = next(line for line in lock.read_text().splitlines() if line.startswith("state = "))
    lock.write_text(lock.read_text().replace(state, f'state = "sha256:{"0" * 64}"'))

    rules = {"broken": "load-failed", "random": "state-missing", "closes": "load-failed", "net": "state-differs"}
    loads = [argument for name in rules for argument in ("--load", name)]
    done = hublock("verify", *loads, "--format", "json", cwd=project, environ=os.environ)

    found = {finding["subject"]: finding["rule"] for finding in json.loads(done.out)["findings"]}
    assert (done.code, found) == (3, rules)
    assert "Traceback" not in done.err, done
    failed = next(finding for finding in json.loads(done.out)["findings"] if finding["subject"] == "broken")
    assert failed["message"].startswith("broken could not be loaded: its own code ended the process with status 0")
    assert failed["hint"] == "hublock lock --retrace broken shows where"
    done = run("verify", "--load", "net", "--load", "nets", "--format", "json")
    assert (done.code, done.out) == (4, "")
    assert "hub.lock has no model nets; did you mean net?" in done.err


def test_loading_proves_the_state_and_a_wrong_one_is_an_integrity_failure(
    added: object, project: Path, run: Run
) -> None:
    assert run("verify", "--load", "net").code == 0
    lock = project / "hub.lock"
    state = next(line for line in lock.read_text().splitlines() if line.startswith("state = "))
    lock.write_text(lock.read_text().replace(state, f'state = "sha256:{"0" * 64}"'))

    done = run("verify", "--load", "net", "--format", "github")

    assert done.code == 3
    assert (
        "title=hublock%3A state-differs::someone/net:v1 net was loaded with the state sha256:<hex>, not the" in done.out
    )
