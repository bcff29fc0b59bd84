"""Findings as SARIF 2.1.0 (OASIS), which code scanning services read."""

import hashlib
from collections.abc import Sequence
from urllib.parse import quote

from hublock.core.findings import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def report(findings: Sequence[Finding], *, version: str) -> dict[str, object]:
    """Return a SARIF log of one run; ``version`` is hublock's own."""
    used = sorted({finding.rule for finding in findings})
    rules = [{"id": rule, "shortDescription": {"text": rule.meaning}} for rule in used]
    driver = {"name": "hublock", "version": version, "rules": rules}
    results = [_result(finding, used.index(finding.rule)) for finding in findings]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _result(finding: Finding, rule: int) -> dict[str, object]:
    # what makes two runs speak of the same finding; lines and digests may move
    identity = hashlib.sha256(f"{finding.rule}\0{finding.subject}".encode()).hexdigest()
    result: dict[str, object] = {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": "warning" if finding.exit_code == 1 else "error",
        "message": {"text": f"{finding.message}. Hint: {finding.hint}"},
        "partialFingerprints": {"hublock/v1": identity},
    }
    if finding.file:
        place = {"artifactLocation": {"uri": quote(finding.file)}, "region": {"startLine": finding.line or 1}}
        result["locations"] = [{"physicalLocation": place}]
    return result
