"""The rules of size and naming that CONTRIBUTING.md states, held for every Python file of the project."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import ROOT, parsed, python_files

MODULE_LINES = 400
FUNCTION_LINES = 60
# A migration is a frozen list of statements: generated, read once, never edited again.
MIGRATIONS = "platform/windlass/db/migrations/versions/"
EMPTY_WORDS = {"manager", "helper", "helpers", "util", "utils", "common", "misc"}


def edited_files() -> list[Path]:
    return [path for path in python_files() if not str(path).startswith(MIGRATIONS)]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    spaced = "".join(f"_{letter}" if letter.isupper() else letter for letter in name)
    return set(spaced.lower().split("_"))


def test_modules_are_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in edited_files()}
    assert {path: lines for path, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_functions_are_short() -> None:
    """Counted from the first statement: the signature of a command is the list of its options."""
    lengths = {
        f"{path}:{f.lineno} {f.name}": (f.end_lineno or 0) - f.body[0].lineno + 1
        for path in edited_files()
        for f in functions(parsed(path))
    }
    assert {where: lines for where, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def test_names_say_something() -> None:
    empty = []
    for path in python_files():
        classes = [node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]
        empty += [f"{path}: {name}" for name in [*path.with_suffix("").parts, *classes] if words(name) & EMPTY_WORDS]
    assert empty == []


def test_the_folders_that_hold_packages_are_no_packages() -> None:
    """``platform/__init__.py`` would shadow the standard library's ``platform`` for whoever runs Python here."""
    for folder in ("platform", "api", "operators", "pipelines"):
        assert list((ROOT / folder).glob("*.py")) == []
        assert [child.name for child in (ROOT / folder).iterdir() if child.name.startswith("windlass")]


def test_test_files_have_names_of_their_own() -> None:
    """import-mode=importlib does not need it; readers of a failure do."""
    names = [path.name for path in python_files() if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
