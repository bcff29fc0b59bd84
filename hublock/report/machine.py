"""Findings for machines."""

from collections.abc import Sequence
from dataclasses import asdict

from hublock.core.findings import Finding, exit_code


def report(findings: Sequence[Finding], *, models: int, trees: int, files: int, size: int) -> dict[str, object]:
    """Return what ``hublock verify --format json`` prints; ``size`` is in bytes, of what was found right."""
    return {
        "ok": not findings,
        "exit-code": exit_code(finding.exit_code for finding in findings),
        "checked": {"models": models, "trees": trees, "files": files, "size": size},
        "findings": [asdict(finding) for finding in findings],
    }
