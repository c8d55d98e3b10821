"""What must not stand in any file of the project, and what must stand beside a suppression."""

import re
import tomllib

from tests.architecture.tree import ROOT, project_files, python_files

import windlass

# Spelt apart, so that this file passes its own test.
REGISTRY_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "crates" + ".io",
    "proxy.golang" + ".org",
    "repo.maven" + ".apache.org",
    "repo1.maven" + ".org",
    "deb.debian" + ".org",
    "download.pytorch" + ".org",
]
MACHINE_PATHS = re.compile(r"(?<![\w./~$}])/(?:work|root|opt/wheels|tmp/[a-z]+|home/[a-z]+|Users/[A-Za-z]+)/")

SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:\s*no\s*cover|pyright:\s*ignore|nosec|ruff:\s*noqa)")
WITH_REASON = re.compile(
    r"#\s*(?:noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|type:\s*ignore\[[\w-]+(?:,\s*[\w-]+)*\]|pragma:\s*no\s*cover)"
    r"\s*(?:-|#)\s*\w.{6,}"
)


def offending(pattern: re.Pattern[str], *, but: re.Pattern[str] | None = None, python_only: bool = False) -> str:
    """The lines that match ``pattern`` and not ``but``, as path:line: text."""
    found = []
    for path in python_files() if python_only else project_files():
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line) and not (but and but.search(line)):
                found.append(f"{path}:{number}: {line.strip()[:120]}")
    return "\n".join(found)


def test_no_package_registry_is_named() -> None:
    """Where packages come from is the business of the user's own pip configuration."""
    assert offending(re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS))) == ""


def test_no_path_of_a_developers_machine_is_named() -> None:
    assert offending(MACHINE_PATHS) == ""


def test_every_suppression_says_why() -> None:
    assert offending(SUPPRESSION, but=WITH_REASON, python_only=True) == ""


def test_no_work_is_left_as_a_remark() -> None:
    assert offending(re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"), python_only=True) == ""


def test_requirements_are_pinned_by_hash_and_name_no_address() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text()
        pinned = re.findall(r"^[a-z0-9][^\n]*", text, re.MULTILINE)
        assert pinned
        assert [line for line in pinned if "==" not in line] == []
        assert len(re.findall(r"^[a-z0-9].*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(pinned)
        assert not re.search(r"://|--index-url|--find-links|(?m:^-e)", text)


def test_every_role_locks_the_versions_of_the_dev_lock() -> None:
    def pins(name: str) -> set[str]:
        found = re.findall(
            r"^([a-z0-9][^\[=\n]*)(?:\[.*\])?==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE
        )
        return {f"{package}=={version}" for package, version in found}

    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        assert pins(lock.name) - pins("dev.txt") == set()


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert windlass.__version__ == project["version"]
