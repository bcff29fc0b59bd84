"""Findings as workflow commands, which GitHub shows beside the line they are about.

The format is that of "Workflow commands for GitHub Actions": ``::error file=…,line=…,title=…::message``.
"""

from collections.abc import Sequence

from hublock.core.findings import Finding


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return a command for each finding: an error, or a warning where the lock only differs."""
    return [_command(finding) for finding in findings]


def _command(finding: Finding) -> str:
    level = "warning" if finding.exit_code == 1 else "error"
    properties = {"file": finding.file, "line": str(finding.line or 1), "title": f"hublock: {finding.rule}"}
    said = ",".join(
        f"{name}={_property(value)}" for name, value in properties.items() if finding.file or name == "title"
    )
    return f"::{level} {said}::{_data(f'{finding.message}{chr(10)}hint: {finding.hint}')}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
