"""Failpoints: each name marks one line, a test fails there, and nothing in the product arms one."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT, parsed, python_files

MODULE = Path("platform/windlass/kit/failpoints.py")
PRODUCT = [path for path in python_files() if path.parts[0] in {"platform", "api", "operators", "pipelines"}]
_CALL = re.compile(r'\bfailpoint\("([a-z_.]+)"\)')
NAMES = Counter(name for path in PRODUCT for name in _CALL.findall((ROOT / path).read_text(encoding="utf-8")))


def test_the_name_of_a_failpoint_occurs_once() -> None:
    assert NAMES
    assert {name: count for name, count in NAMES.items() if count > 1} == {}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_test_fails_at_the_failpoint(name: str) -> None:
    tests = [path for path in python_files() if path.name.startswith("test_") and "architecture" not in path.parts]
    assert any(f'"{name}' in (ROOT / path).read_text(encoding="utf-8") for path in tests)


def test_the_product_arms_no_failpoint() -> None:
    for path in PRODUCT:
        imports = (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Import | ast.ImportFrom))
        for node in imports:
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom) and node.module == "windlass.kit.failpoints":
                assert names == ["failpoint"], path
            else:
                assert not any("failpoints" in name for name in names), path
    assert [alias.name for node in parsed(MODULE).body if isinstance(node, ast.ImportFrom) for alias in node.names] == [
        "Callable"
    ]
