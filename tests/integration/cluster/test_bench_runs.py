"""A small run of the benchmark completes and counts correctly, whatever the times are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.testcluster.layout import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
PROJECTS, WORKLOADS = 20, 40


def test_the_benchmark_runs_and_counts(installed: LocalCluster, tmp_path: Path) -> None:
    out = tmp_path / "results"
    size = ["--projects", str(PROJECTS), "--workloads", str(WORKLOADS), "--rates", "5", "--seconds", "2"]
    argv = [sys.executable, "-m", "tests.bench.cluster", "--state", str(installed.state), "--out", str(out), *size]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = json.loads(out.with_suffix(".json").read_text())
    assert results["first"]["writes"] > 15 * PROJECTS
    assert results["again"]["writes"] == 0
    for timings in results["paces"]:
        assert timings["without_response"] == 0
        assert 1 <= timings["writes_per_change"] < 6
    forms = [(one["form"], one["windlass"]) for one in results["rounds"]]
    assert forms == [(form, with_it) for form in ("Workload", "Job") for with_it in (True, False, False, True)]
    assert all(ratio > 0 for ratio in results["ratios"].values())
    assert "| start among 20 projects |" in out.with_suffix(".md").read_text()
