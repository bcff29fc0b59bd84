"""Findings for machines."""

from collections.abc import Sequence
from dataclasses import asdict

from hublock.core.findings import Finding, exit_code


def report(findings: Sequence[Finding], *, models: int, trees: int, files: int) -> dict[str, object]:
    """Return what ``hublock verify --format json`` prints."""
    return {
        "ok": not findings,
        "exit-code": exit_code(finding.exit_code for finding in findings),
        "checked": {"models": models, "trees": trees, "files": files},
        "findings": [asdict(finding) for finding in findings],
    }
