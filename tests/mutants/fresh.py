"""Runs all tests of a module in a process that imports the mutant instead of the module."""

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import CodeType, ModuleType

from tests.mutants.pytest_run import run_pytest
from tests.mutants.targets import Target

_PRELOAD = ("hypothesis", "pydantic", "httpx2", "fastapi.testclient", "sqlmodel", "uvicorn", "psutil", "alembic")


class _Loader(importlib.machinery.SourceFileLoader):
    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the mutant instead of that of the file."""
        del fullname
        return self.code


class _Finder(MetaPathFinder):
    """Finds one module as a mutant."""

    def __init__(self, module: str, code: CodeType) -> None:
        self._module, self._code = module, code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the mutant, None for every other module."""
        if fullname != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        loader = _Loader(fullname, spec.origin)
        loader.code = self._code
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


def preload(target: Target) -> None:
    """Import what the tests of a target need, but nothing that imports the target."""
    for name in (*_PRELOAD, *target.preload):
        importlib.import_module(name)
    assert target.module not in sys.modules


def run_tests(target: Target, code: CodeType) -> int:
    """Run the tests on a mutant, and return the exit code of pytest."""
    sys.meta_path.insert(0, _Finder(target.module, code))
    return run_pytest(["-x", *target.tests])
