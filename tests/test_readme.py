"""Everything README.md shows can be run, parsed or compiled."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from examples.loopback import git, publish
from hublock.cli.main import COMMANDS, build_parser
from hublock.core.lockreader import parse_lock
from hublock.core.manifest import parse_manifest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SETUPS = ("examples/quickstart.py", "-m pytest")


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def commands(text: str = README) -> list[str]:
    """The commands of a document: lines that begin with a prompt."""
    return re.findall(r"^\$ (.*)$", text, re.MULTILINE)


def hublock_commands(text: str = README) -> list[list[str]]:
    words = (shlex.split(line, comments=True) for line in commands(text))
    return [line[line.index("hublock") + 1 :] for line in words if "hublock" in line and "pip" not in line]


def other_commands() -> list[list[str]]:
    """Those of the other documents."""
    files = [ROOT / "CONTRIBUTING.md", *(ROOT / "examples").rglob("README.md")]
    return [words for file in files for words in hublock_commands(file.read_text(encoding="utf-8"))]


def test_every_language_of_a_block_is_known() -> None:
    assert {language for language, _ in BLOCKS} <= {"console", "toml", "python", "sh"}
    assert README.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("words", [*hublock_commands(), *other_commands()], ids=" ".join)
def test_a_shown_command_is_one(words: list[str]) -> None:
    assert build_parser().parse_args(words).run is not None


def test_the_readme_shows_the_commands_of_everyday() -> None:
    existing = {module.__name__.rpartition(".")[2] for module in COMMANDS.values()}

    assert {words[0] for words in hublock_commands()} <= existing
    assert {"add", "sync", "verify", "lock", "list", "help", "remove"} <= {words[0] for words in hublock_commands()}


@pytest.mark.parametrize("text", blocks("toml"))
def test_a_shown_toml_file_is_a_manifest_or_a_lock(text: str) -> None:
    if "version" in tomllib.loads(text):
        assert parse_lock(text, file="README.md").repos
    else:
        assert parse_manifest(text, file="README.md", embedded=False).models


@pytest.mark.parametrize("text", blocks("python"))
def test_shown_python_compiles(text: str) -> None:
    compile(text, "README.md", "exec")


@pytest.mark.parametrize("end", SETUPS)
def test_the_two_setups_are_one_line_each_and_pin_torch(end: str) -> None:
    [command] = [line for line in commands() if end in line]

    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install torch==2.13.0 -e ")
    assert command.endswith(end)


@pytest.mark.parametrize("end", SETUPS)
def test_ci_runs_the_setups_of_the_readme(end: str, tmp_path: Path) -> None:
    script = (ROOT / ".ci" / "run").read_text()
    [function] = re.findall(r"^readme_command\(\) \{.*?^\}$", script, re.MULTILINE | re.DOTALL)
    [variable] = re.findall(rf"^(\w+)=\$\(readme_command '{end}'\)$", script, re.MULTILINE)

    assert re.search(rf'^bash -euo pipefail -c "\${variable}"', script, re.MULTILINE)
    found = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{function}\nreadme_command '{end}'"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.rstrip("\n") in commands()
    (tmp_path / "README.md").write_text(README.replace("$ python3 -m venv", "$ python3 -m virtualenv"))
    missing = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{function}\nx=$(readme_command '{end}')\necho went on"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert missing.returncode != 0
    assert missing.stdout == ""
    assert "does not hold exactly one command" in missing.stderr


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:examples|schemas|tests)/[\w./-]*)`", README):
        assert (ROOT / name).exists(), name


def test_the_shown_shell_line_recomputes_the_digest_of_a_lock(tmp_path: Path) -> None:
    [line] = [text for text in blocks("sh") if "--object-format=sha256" in text]
    [repo] = parse_lock((ROOT / "examples" / "paper" / "hub.lock").read_text(), file="hub.lock").repos
    bare, folder = publish(tmp_path / "git"), tmp_path / "folder"
    folder.mkdir()
    git("archive", "--output", tmp_path / "tree.tar", repo.commit, cwd=bare)
    subprocess.run(["tar", "-xf", tmp_path / "tree.tar", "-C", folder], check=True)

    done = subprocess.run(["sh", "-c", line], cwd=folder, env=os.environ, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repo.digest.hex
