"""Runs the commands of every page in a shell, against real servers and real models."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.docs.pages import ON_A_FREE_PORT, all_pages, commands_of, session

PAGES = [page for page in all_pages() if any(not c.skip for c in commands_of(page, (ROOT / page).read_text("utf-8")))]


@pytest.mark.models
@pytest.mark.processes
@pytest.mark.timeout(900)
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
    try:
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=840,
            check=False,
        )
    finally:
        down = [str(bin_folder / "windlass"), "down"]
        subprocess.run(down, env=environment, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
