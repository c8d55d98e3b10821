"""Attack classes 9 and 15: no code of the product starts a shell, and only one module opens archives."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import ROOT, parsed, python_files

PRODUCT = {"platform", "api", "operators", "pipelines"}
SHELLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "pty.spawn",
    "commands.getoutput",
}
ARCHIVE_MODULES = {"zipfile", "tarfile"}
EXTRACTORS = {"extract", "extractall", "unpack_archive"}
_SUSPICIOUS = re.compile(r"zipfile|tarfile|extract|unpack_archive|shell|system\(|popen|getoutput|spawn|getstatus")
OPENS_ARCHIVES = {
    Path("platform/windlass/examples/archives.py"): "on the client: reads named members of wheels as streams",
}


def product_files() -> list[Path]:
    """The files of the product that may contain what is searched."""
    return [
        path
        for path in python_files()
        if path.parts[0] in PRODUCT and _SUSPICIOUS.search((ROOT / path).read_text("utf-8"))
    ]


def calls(path: Path) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call))


def test_no_process_is_started_through_a_shell() -> None:
    shells = [
        f"{path}:{call.lineno}"
        for path in product_files()
        for call in calls(path)
        if ast.unparse(call.func) in SHELLS
        or (ast.unparse(call.func).startswith("subprocess.") and any(word.arg == "shell" for word in call.keywords))
    ]
    assert shells == []


def test_only_one_module_opens_archives_and_none_extracts_them() -> None:
    importing, extracting = set(), []
    for path in product_files():
        for node in ast.walk(parsed(path)):
            names = (
                {alias.name for alias in node.names}
                if isinstance(node, ast.Import)
                else {node.module or ""}
                if isinstance(node, ast.ImportFrom)
                else set()
            )
            if names & ARCHIVE_MODULES:
                importing.add(path)
        extracting += [
            f"{path}:{call.lineno}"
            for call in calls(path)
            if isinstance(call.func, ast.Attribute) and call.func.attr in EXTRACTORS
        ]
    assert importing == set(OPENS_ARCHIVES)
    assert extracting == []
