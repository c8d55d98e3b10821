"""Runs the hooks of tests/conftest.py in a separate pytest process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="not supported")
def test_marked(): pass

def test_skips_itself(): pytest.skip("not now")

@pytest.mark.xfail(strict=True, reason="known")
def test_known_to_fail(): assert False
"""


def run_suite(folder: Path, ci: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider", "-q", *options, str(folder)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    clean |= {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_skip_fails_the_run_in_ci(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    ended = run_suite(tmp_path, "true", "-n", workers)
    assert ended.returncode == 1
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in ended.stdout


def test_a_skipped_module_fails_the_run_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    ended = run_suite(tmp_path, "true")
    assert ended.returncode == 2
    assert "1 error" in ended.stdout


def test_a_skip_is_allowed_outside_ci(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    ended = run_suite(tmp_path, "false")
    assert ended.returncode == 0
    assert "1 passed, 2 skipped, 1 xfailed" in ended.stdout


def test_an_empty_run_fails(tmp_path: Path) -> None:
    ended = run_suite(tmp_path, "true")
    assert ended.returncode == 5
