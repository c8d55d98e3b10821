"""Suppressions give a reason, no unfinished-work marker is committed, and the requirements are consistent."""

import re
import tomllib

from tests.architecture.tree import ROOT, python_files

import windlass

SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no\s*cover|pyright:\s*ignore|nosec|ruff:\s*noqa)")
WITH_REASON = re.compile(
    r"#\s*(?:noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|type:\s*ignore\[[\w-]+(?:,\s*[\w-]+)*\]|pragma:\s*no\s*cover)"
    r"\s*(?:-|#)\s*\w.{6,}"
)


def offending(pattern: re.Pattern[str], *, allowed: re.Pattern[str] | None = None) -> str:
    """The lines of Python files that match ``pattern`` and not ``allowed``, as path:line: text."""
    lines = []
    for path in python_files():
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line) and not (allowed and allowed.search(line)):
                lines.append(f"{path}:{number}: {line.strip()[:120]}")
    return "\n".join(lines)


def test_every_suppression_gives_a_reason() -> None:
    assert offending(SUPPRESSION, allowed=WITH_REASON) == ""


def test_no_todo_comment_is_committed() -> None:
    assert offending(re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")) == ""


def test_requirements_are_pinned_by_hash_without_an_index_url() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text()
        pinned = re.findall(r"^[a-z0-9][^\n]*", text, re.MULTILINE)
        assert pinned
        assert [line for line in pinned if "==" not in line] == []
        assert len(re.findall(r"^[a-z0-9].*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(pinned)
        assert not re.search(r"://|--index-url|--find-links|(?m:^-e)", text)


OTHER_ENVIRONMENTS = ("mlflow.txt", "node.txt")
"""Installed outside of the environment, see `make bench` and tests/factories/node.py."""


def test_every_lock_agrees_with_the_dev_lock() -> None:
    def pins(name: str) -> set[str]:
        matches = re.findall(
            r"^([a-z0-9][^\[=\n]*)(?:\[.*\])?==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE
        )
        return {f"{package}=={version}" for package, version in matches}

    for lock in sorted(each for each in (ROOT / "requirements").glob("*.txt") if each.name not in OTHER_ENVIRONMENTS):
        assert pins(lock.name) - pins("dev.txt") == set()


def test_package_version_matches_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert windlass.__version__ == project["version"]
