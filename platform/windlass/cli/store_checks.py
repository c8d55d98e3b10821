"""Runs the comparison of the object store with the database in another process: the CLI imports neither of them."""

import json
import subprocess
import sys
from pathlib import Path

from windlass.cli import local_server
from windlass.domain.checks import CheckResult, failed, passed, warning
from windlass.domain.errors import UnavailableError
from windlass.kit.numbers import count, size

_FOUND = (0, 1)
"""Exit codes of a check that ran: without and with problems."""
_ACTIONS = {
    "missing": "restore it from a backup, or delete its owner",
    "changed": "restore it from a backup, or delete its owner",
    "orphan": "delete it if no older backup of the database names it",
}


def run(home: Path, *, hashes: bool) -> list[CheckResult]:
    """Return a result for each problem, and a summary.

    Raises:
        UnavailableError: required packages are not installed, or the check cannot run.
    """
    if missing := local_server.missing_extras(("api",)):
        raise UnavailableError(
            f"the packages of the check are not installed: {', '.join(missing['api'])}",
            hint="pip install 'windlass[api]', or run `python -m windlass_api.store_check` in a pod of the API",
        )
    argv = [sys.executable, "-P", "-m", "windlass_api.store_check", "--json", "--home", str(home)]
    ended = subprocess.run([*argv, *(["--hashes"] if hashes else [])], stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode not in _FOUND:
        raise UnavailableError("the check of the object store failed", hint="its error is above")
    report = json.loads(ended.stdout)
    results = [_result(problem) for problem in report["problems"]]
    compared = f"{count(report['folders'], 'folder')}, {count(report['files'], 'file')}, {size(report['bytes'])}"
    return results or [passed("object store", compared)]


def _result(problem: dict[str, str]) -> CheckResult:
    check, text = f"{problem['kind']} file", f"{problem['key']}: {problem['problem']} ({problem['owner']})"
    action = _ACTIONS[problem["kind"]]
    return warning(check, text, action) if problem["kind"] == "orphan" else failed(check, text, action)
