"""The databases of the tests."""

import pytest
from tests.factories.databases import database_kind, run_on_both

__all__ = ["database_kind"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the repositories on SQLite and on PostgreSQL."""
    if hasattr(metafunc.module, "ControlPlaneHarness") or hasattr(metafunc.module, "new_engine"):
        run_on_both(metafunc)
