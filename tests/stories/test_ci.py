"""The CI kit, run as far as it can be without its hosts, and what makes a job of examples/ci fail."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.loopback import PUBLISH, RELEASE, REPOSITORY, publish
from tests.forge import Forge, ForgeRepo, git
from tests.stories.conftest import Run

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "ci"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
POINTS = f"https://github.com{RELEASE}/points-4d3cecd4.pth"


@dataclass(frozen=True)
class Job:
    """What a job printed, and the status of its last step."""

    out: str
    code: int
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Runner:
    """Runs the steps of action.yml as GitHub's runner does: one shell each, files for what they hand on."""

    project: Path
    """The checkout."""
    work: Path
    environ: dict[str, str]

    def run(self, **inputs: str) -> Job:
        temp = self.work / "temp"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        given = {name: str(row["default"]) for name, row in ACTION["inputs"].items()} | inputs
        context = {f"inputs.{name}": value for name, value in given.items()}
        context |= {"github.action_path": str(ROOT), "github.token": "a-token"}
        environ = {**self.environ, "RUNNER_TEMP": str(temp), "GITHUB_WORKSPACE": str(self.project)}
        said, ran = "", []
        for step in ACTION["runs"]["steps"]:
            if "uses" in step:
                assert step["uses"].startswith("actions/cache@")
                continue
            ran.append(step["name"])
            done = self._step(step, context, environ, temp)
            said += done.stdout + done.stderr
            if done.returncode:
                return Job(said, done.returncode, tuple(ran))
        return Job(said, 0, tuple(ran))

    def _step(self, step: Any, context: dict[str, str], environ: dict[str, str], temp: Path) -> Any:
        for name in ("PATH", "OUTPUT"):
            (temp / name).touch()
            environ[f"GITHUB_{name}"] = str(temp / name)
        script = temp / "step.sh"
        script.write_text(step["run"])
        given = {name: fill(str(value), context) for name, value in step.get("env", {}).items()}
        path = os.pathsep.join([*reversed((temp / "PATH").read_text().split()), environ["PATH"]])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.project / fill(step.get("working-directory", "."), context),
            env={**environ, **given, "PATH": path},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def handed_on(self) -> str:
        return (self.work / "temp" / "OUTPUT").read_text()


def fill(text: str, context: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda match: context[match[1]], text)


PYTHON = """\
#!/bin/sh
# stands for python3 of a runner: its -m venv gives a pip that tells what it was asked for, and hublock
[ "$1 $2" = "-m venv" ] || exit 9
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "pip $*"\\n' >"$3/bin/pip"
printf '#!/bin/sh\\nexec "%s" -m hublock "$@"\\n' "{python}" >"$3/bin/hublock"
chmod +x "$3/bin/pip" "$3/bin/hublock"
"""


@pytest.fixture
def tiny(forge: Forge, tmp_path: Path) -> ForgeRepo:
    """hublock-examples/tiny and its release, on the forge."""
    for path in (PUBLISH / "release").iterdir():
        forge.serve(f"https://github.com{RELEASE}/{path.name}", path.read_bytes())
    return forge.adopt(REPOSITORY, publish(tmp_path / "published"))


@pytest.fixture
def runner(tiny: ForgeRepo, project: Path, store: Path, tmp_path: Path) -> Runner:
    """A job on a checkout of examples/ci, with an empty cache."""
    shutil.copytree(EXAMPLE, project, dirs_exist_ok=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").write_text(PYTHON.replace("{python}", sys.executable))
    (programs / "python3").chmod(0o755)
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HUBLOCK_CACHE_DIR": str(store)}
    environ["PYTHONPATH"] = str(ROOT)
    return Runner(project, tmp_path / "runner", environ)


def test_the_job_passes_on_what_was_reviewed(runner: Runner, store: Path) -> None:
    job = runner.run()

    assert job.code == 0, job.out
    assert job.steps == ("Install hublock", "Name the cache", "Sync", "Verify")
    assert f"pip install --quiet --disable-pip-version-check {ROOT}\n" in job.out
    assert "::" not in job.out
    assert re.fullmatch(rf"key=hublock-v1-[0-9a-f]{{32}}\ndir={re.escape(str(store))}\S*\n", runner.handed_on())
    assert runner.run(upstream="true", against="hub.lock", install="hublock==0.1.0").code == 0


def test_the_job_fails_when_a_weight_is_replaced_at_the_same_url(runner: Runner, forge: Forge) -> None:
    data = bytearray((PUBLISH / "release" / "points-4d3cecd4.pth").read_bytes())
    assert runner.run().code == 0
    data[-300] ^= 1
    forge.serve(POINTS, bytes(data))
    shutil.rmtree(runner.environ["HUBLOCK_CACHE_DIR"])

    fresh = runner.run()

    assert (fresh.code, fresh.steps[-1]) == (3, "Sync")
    assert "::error file=hub.lock,title=hublock sync::error: " in fresh.out
    assert POINTS in fresh.out


def test_the_weekly_job_sees_a_replaced_weight_though_all_is_cached(runner: Runner, forge: Forge) -> None:
    assert runner.run().code == 0
    forge.serve(POINTS, b"another file")

    assert runner.run().code == 0
    weekly = runner.run(upstream="true")

    line = line_of(runner.project, POINTS)
    assert (weekly.code, weekly.steps[-1]) == (3, "Verify")
    assert f"::error file=hub.lock,line={line},title=hublock%3A upstream-file-replaced::{POINTS} serves" in weekly.out


def test_the_weekly_job_fails_when_a_tag_is_moved_and_the_pin_holds(runner: Runner, tiny: ForgeRepo) -> None:
    tiny.commit({"hubconf.py": "import os\n"})
    tiny.tag("v1.0", "main")

    assert runner.run().code == 0
    weekly = runner.run(upstream="true")

    line = line_of(runner.project, f"{REPOSITORY}:v1.0")
    assert weekly.code == 1
    assert f"::warning file=hub.lock,line={line},title=hublock%3A upstream-tag-moved::the tag v1.0 of" in weekly.out


@pytest.mark.parametrize(
    ("old", "new", "code", "step"),
    [
        ("version = 1", "version = 1  # reviewed", 1, "Verify"),
        ("size = 2213", "size = 2214", 3, "Sync"),
        ("4d3cecd4c542e7d1", "4d3cecd4c542e7d2", 3, "Sync"),
        ("3e9761cd401cf78f", "3e9761cd401cf780", 2, "Sync"),
        ("88f6dc80c9fc09f9", "88f6dc80c9fc09f8", 3, "Sync"),
        ("pretrained = true", "pretrained = false", 1, "Sync"),
        ('pickle = "tensors"', 'pickle = "none"', 3, "Verify"),
        ("[[weights]]", "<<<<<<< HEAD\n[[weights]]", 2, "Sync"),
    ],
)
def test_the_job_fails_when_somebody_edits_the_lock_by_hand(
    runner: Runner, old: str, new: str, code: int, step: str
) -> None:
    lock = runner.project / "hub.lock"
    assert old in lock.read_text()
    lock.write_text(lock.read_text().replace(old, new))

    job = runner.run()

    assert (job.code, job.steps[-1]) == (code, step), job.out


def test_a_project_below_the_root_is_named_from_the_root_on(runner: Runner, forge: Forge) -> None:
    (runner.project / "paper").mkdir()
    for name in ("hub.toml", "hub.lock"):
        (runner.project / name).rename(runner.project / "paper" / name)
    assert runner.run(project="./paper").code == 0
    forge.serve(POINTS, b"another file")

    weekly = runner.run(project="./paper", upstream="true")
    shutil.rmtree(runner.environ["HUBLOCK_CACHE_DIR"])
    fresh = runner.run(project="./paper")

    assert "::error file=paper/hub.lock,line=" in weekly.out
    assert "::error file=paper/hub.lock,title=hublock sync::" in fresh.out


def line_of(project: Path, text: str) -> int:
    lines = (project / "hub.lock").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_no_input_of_the_action_is_pasted_into_a_script() -> None:
    scripts = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]

    assert len(scripts) == 4
    assert not [script for script in scripts if "${{" in script]


def test_the_pre_commit_hook_stops_what_the_lock_does_not_answer(runner: Runner, tmp_path: Path) -> None:
    """pre-commit itself takes the hook from a git repository; `language: system` spares it the registry."""
    source, project = tmp_path / "hublock", runner.project
    source.mkdir()
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", source)
    for folder, message in ((source, "the hook"), (project, "the project")):
        git("init", "--quiet", "--initial-branch=main", cwd=folder)
        git("add", "--all", cwd=folder)
        git("commit", "--quiet", "--message", message, cwd=folder)
    config = yaml.safe_load((EXAMPLE / ".pre-commit-config.yaml").read_text())
    [repo] = config["repos"]
    repo |= {"repo": str(source), "rev": git("rev-parse", "HEAD", cwd=source).decode().strip()}
    [hook] = repo["hooks"]
    hook["language"] = "system"
    (project / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    assert runner.run().code == 0
    programs = f"{tmp_path / 'runner' / 'temp' / 'hublock' / 'bin'}:{os.environ['PATH']}"

    def commit() -> subprocess.CompletedProcess[str]:
        git("add", "--all", cwd=project)
        return subprocess.run(
            [sys.executable, "-m", "pre_commit", "run"],
            cwd=project, env={**runner.environ, "PATH": programs, "PRE_COMMIT_HOME": str(tmp_path / "pre-commit")},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    manifest, lock = project / "hub.toml", project / "hub.lock"
    manifest.write_text(manifest.read_text() + "# nothing new\n")
    passed = commit()
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert re.search(r"hub\.lock answers the manifest\.+Passed", passed.stdout)
    manifest.write_text(manifest.read_text().replace("pretrained = true", "pretrained = false"))
    stale = commit()
    assert stale.returncode == 1
    assert "does not answer the manifest: model tiny is locked with other arguments" in stale.stdout
    manifest.write_text(manifest.read_text().replace("pretrained = false", "pretrained = true"))
    lock.write_text(lock.read_text() + "# mine\n")
    assert "it was edited by hand" in commit().stdout


def test_renovate_finds_the_tags_and_nothing_else() -> None:
    [manager] = json.loads((EXAMPLE / "renovate.json").read_text())["customManagers"]
    [file] = manager["managerFilePatterns"]
    [pattern] = manager["matchStrings"]
    # Renovate's are the regular expressions of RE2; Python names groups otherwise
    named = re.compile(pattern.replace("(?<", "(?P<"))
    manifest = (
        '[models.a]\nrepo = "o/a-b.c:v1.2.0"\n[models.b]\nrepo="o/b"\n[models.c]\nrepo = "./c"\n'
        '[models.d]\nrepo = "git+https://e.org/d@v1"\n' + (EXAMPLE / "hub.toml").read_text()
    )

    assert re.search(file.strip("/"), "some/hub.toml")
    assert [match.groupdict() for match in named.finditer(manifest)] == [
        {"depName": "o/a-b.c", "currentValue": "v1.2.0"},
        {"depName": REPOSITORY, "currentValue": "v1.0"},
    ]


def test_the_workflow_of_the_example_is_well_formed_and_reads_only(runner: Runner, hub: Run) -> None:
    workflow = yaml.safe_load((EXAMPLE / ".github" / "workflows" / "hub.yml").read_text())
    [job] = workflow["jobs"].values()
    used = [step for step in job["steps"] if step.get("uses", "").startswith("hublock/")]

    assert workflow["permissions"] == {"contents": "read"}
    assert [set(step["with"]) <= set(ACTION["inputs"]) for step in used] == [True]
    [script] = [step["run"] for step in job["steps"] if "run" in step]
    git("init", "--quiet", "--initial-branch=main", cwd=runner.project)
    git("add", "--all", cwd=runner.project)
    git("commit", "--quiet", "--message", "base", cwd=runner.project)
    assert runner.run().code == 0
    programs = f"{runner.work / 'temp' / 'hublock' / 'bin'}:{os.environ['PATH']}"
    summary = runner.work / "summary"
    environ = {**runner.environ, "PATH": programs, "BASE": "HEAD", "GITHUB_STEP_SUMMARY": str(summary)}
    subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=runner.project, env=environ, check=True)
    assert summary.read_text() == "`hub.lock` pins what it pinned before.\n"
