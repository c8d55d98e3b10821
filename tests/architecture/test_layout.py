"""The size limits that CONTRIBUTING.md states, checked for every Python file of the project."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import ROOT, parsed, python_files

MODULE_LINES = 400
FUNCTION_LINES = 60
# Migrations are generated and never edited again.
MIGRATIONS = "platform/windlass/db/migrations/versions/"


def edited_files() -> list[Path]:
    return [path for path in python_files() if not str(path).startswith(MIGRATIONS)]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_modules_are_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in edited_files()}
    assert {path: lines for path, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_functions_are_short() -> None:
    """Counted from the first statement: a CLI command's signature lists its options."""
    lengths = {
        f"{path}:{f.lineno} {f.name}": (f.end_lineno or 0) - f.body[0].lineno + 1
        for path in edited_files()
        for f in functions(parsed(path))
    }
    assert {where: lines for where, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def test_source_roots_are_not_packages() -> None:
    """``platform/__init__.py`` would shadow the standard library's ``platform`` for Python started here."""
    for folder in ("platform", "api", "operators", "pipelines"):
        assert list((ROOT / folder).glob("*.py")) == []
        assert [child.name for child in (ROOT / folder).iterdir() if child.name.startswith("windlass")]
