"""The checks without a cluster, in their own process, as `windlass doctor --cluster` runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SECRETS = {
    "WINDLASS_DATABASE_URL": "postgresql+psycopg://windlass:hunter2@127.0.0.1:9/windlass",
    "WINDLASS_S3_BUCKET": "models",
    "WINDLASS_S3_ENDPOINT": "http://127.0.0.1:9",
    "WINDLASS_S3_ACCESS_KEY_ID": "windlass",
    "WINDLASS_S3_SECRET_ACCESS_KEY": "hunter2",
}


@pytest.mark.processes
def test_unreachable_parts_are_reported_without_their_passwords(tmp_path: Path) -> None:
    environment = os.environ | SECRETS | {"KUBECONFIG": str(tmp_path / "none")}
    argv = [sys.executable, "-m", "windlass.cli", "doctor", "--cluster", "-o", "json"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
    found = {each["check"]: each for each in json.loads(ended.stdout)}
    assert set(found) == {"kubernetes", "database", "object store"}
    assert {each["state"] for each in found.values()} == {"failed"}
    assert "Connection refused" in found["database"]["result"]
    assert "unreachable" in found["object store"]["result"]
    assert all(each["action"] for each in found.values())
