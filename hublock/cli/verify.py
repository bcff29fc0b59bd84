"""``hublock verify``."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hublock.cli.console import counted, size
from hublock.cli.face import Face, given, repeatable
from hublock.errors import HublockError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hublock.actions.verify import Verified
    from hublock.core.findings import Finding

SUMMARY = "check that the lock is current and the store intact; offline, unless asked"
EXAMPLES = """\
  hublock verify
  hublock verify --deep              hash every byte again
  hublock verify --upstream          ask the hosts: has a tag moved, is a file gone or of another size?
  hublock verify --upstream --deep   fetch every file and every commit again, and compare
  hublock verify --against old.lock  exit 1 if the two locks pin other things
  hublock verify --load resnet18     load it, and compare its state with the locked one
  hublock verify --format github     annotations of a pull request; also json, sarif"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--deep", action="store_true", help="hash every byte, whatever sizes, times and hosts say")
    parser.add_argument("--upstream", action="store_true", help="ask the hosts whether they still hold what is locked")
    parser.add_argument("--against", type=Path, metavar="LOCK", help="another lock, which must pin the same")
    repeatable(parser, "--load", metavar="NAME", type=given, help="load a model and compare its state; needs torch")
    parser.add_argument(
        "--format", choices=("text", "json", "github", "sarif"), default="text", help="how findings are printed"
    )


def run(arguments: argparse.Namespace, face: Face) -> int:
    """Run the command."""
    from hublock.actions.verify import Checks, Verified, failed, verify
    from hublock.core.findings import exit_code

    checks = Checks(
        deep=arguments.deep, upstream=arguments.upstream, against=arguments.against, load=tuple(arguments.load)
    )
    try:
        done = verify(face.project, face.context, checks)
    except HublockError as error:
        if arguments.format == "text":
            raise
        done = Verified(findings=failed(error, face.project), models=0, trees=0, files=0, size=0)
    _report(done, arguments.format, face)
    if not done.findings:
        what = f"{counted(done.models, 'model')}, {counted(done.trees, 'tree')}, {counted(done.files, 'file')}"
        face.console.done("Verified", f"{what}, {size(done.size)}")
        if checks.upstream and not checks.deep:
            face.console.say("          as far as hosts tell; with --deep every file is fetched and hashed")
    return exit_code(finding.exit_code for finding in done.findings)


def _report(done: "Verified", format: str, face: Face) -> None:
    from hublock.report import github, machine, sarif

    # who shows them on GitHub wants paths from the repository's root on, wherever the project lies in it
    root = face.environ.get("GITHUB_WORKSPACE") if format in ("github", "sarif") else None
    findings = _relative(done.findings, Path(root) if root else face.cwd)
    if format == "json":
        counts = {"models": done.models, "trees": done.trees, "files": done.files, "size": done.size}
        face.console.json(machine.report(findings, **counts))
    elif format == "sarif":
        face.console.json(sarif.report(findings, version=face.version))
    elif format == "github":
        for line in github.lines(findings):
            face.console.data(line)
    else:
        for finding in findings:
            face.console.error(HublockError(finding.message, hint=finding.hint))


def _relative(findings: "Sequence[Finding]", base: Path) -> "list[Finding]":
    """Name files from ``base`` on, where they lie below it."""
    return [
        replace(finding, file=Path(finding.file).relative_to(base).as_posix())
        if finding.file and Path(finding.file).is_relative_to(base)
        else finding
        for finding in findings
    ]
