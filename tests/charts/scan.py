"""Scans rendered objects with kube-score, and compares the findings with the accepted ones."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
ACCEPTED = Path(__file__).parent / "accepted-findings.toml"
_KUBERNETES = "v1.34"
"""The oldest version that the charts support."""
_PASSED = 10
"""The grade of a check without findings."""


@dataclass(frozen=True)
class ScanFinding:
    """One finding: a check of kube-score, the object's kind, version, namespace and name, and a sentence."""

    check: str
    object: str
    summary: str


@dataclass(frozen=True)
class Acceptance:
    """A kind of finding that is no fault, with the reason."""

    check: str
    object: str
    summary: str
    reason: str

    def covers(self, finding: ScanFinding) -> bool:
        """Whether the finding is of this kind."""
        return (
            self.check == finding.check
            and re.fullmatch(self.object, finding.object) is not None
            and re.fullmatch(self.summary, finding.summary) is not None
        )


def accepted() -> list[Acceptance]:
    """The accepted findings."""
    return [Acceptance(**entry) for entry in tomllib.loads(ACCEPTED.read_text("utf-8"))["accepted"]]


def scan(kube_score: Path, objects: list[Json]) -> Iterator[ScanFinding]:
    """Yield the findings of kube-score in the objects."""
    ended = subprocess.run(
        [str(kube_score), "score", "--output-format", "json", "--kubernetes-version", _KUBERNETES, "-"],
        input=yaml.dump_all(objects, Dumper=yaml.CSafeDumper),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode in {0, 1}, ended.stderr  # 1: there are findings
    for scored in json.loads(ended.stdout):
        for check in scored["checks"]:
            if not check["skipped"] and check["grade"] < _PASSED:
                for comment in check["comments"] or []:
                    yield ScanFinding(check["check"]["id"], scored["object_name"], comment["summary"])
