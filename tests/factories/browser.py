"""Chromium of Debian, and the console that it opens: built from the source unless it is built."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.factories.node import is_installed

REPOSITORY = Path(__file__).parent.parent.parent
_SOURCE = REPOSITORY / "api" / "console"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable")
ARTIFACTS = REPOSITORY / "build" / "console"
"""The screenshots of the tests."""


def installed_browser() -> str | None:
    """Return the path of the browser; None: it is not installed."""
    return next((path for path in map(shutil.which, _PROGRAMS) if path is not None), None)


@cache
def browser_path() -> str:
    """Return the path of the browser; a test is skipped without it."""
    path = installed_browser()
    if path is None:
        pytest.skip("this test needs Chromium: apt-get install --no-install-recommends chromium, or INSTALL=1")
    return path


@cache
def build_console() -> None:
    """Build the console; a test is skipped without Node."""
    if not is_installed():
        pytest.skip("this test needs Node 20.19 or newer: INSTALL=1")
    subprocess.run([sys.executable, str(_SOURCE / "build.py"), "--modules"], check=True, cwd=REPOSITORY)


def axe() -> str:
    """Return the source of axe, which finds faults of a page for people who use a keyboard or a screen reader."""
    return (_SOURCE / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def install() -> None:
    """Install Debian's package of the browser unless it is there; for ``make pytest INSTALL=1`` and CI."""
    if installed_browser() is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]):
            subprocess.run(["apt-get", "--quiet", *arguments], check=True, env=environment)


if __name__ == "__main__":
    install()
