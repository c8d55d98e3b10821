"""Runs the commands of every page in a shell, against real servers and real models."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.docs.pages import ON_A_FREE_PORT, all_pages, commands_of, session

PAGES = [page for page in all_pages() if any(not c.skip for c in commands_of(page, (ROOT / page).read_text("utf-8")))]

_TIMEOUT_SECONDS = 1500


@pytest.mark.models
@pytest.mark.processes
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_commands_of_the_page_run(page: Path, tmp_path: Path) -> None:
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "WINDLASS_HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(ROOT / ".cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    script = ON_A_FREE_PORT + session(commands_of(page, (ROOT / page).read_text("utf-8")))
    output = tmp_path / "output"
    try:
        with output.open("wb") as stream:
            ended = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        failure = f"exit code {ended.returncode}" if ended.returncode else None
    except subprocess.TimeoutExpired:
        failure = f"still running after {_TIMEOUT_SECONDS} s"
    finally:
        down = [str(bin_folder / "windlass"), "down"]
        subprocess.run(down, env=environment, capture_output=True, timeout=60, check=False)
    assert failure is None, f"{failure}; the end of the output:\n{output.read_text('utf-8', 'replace')[-6000:]}"
