"""Runs pytest so that a mutant gets the same result every time, and nothing is written to the tree."""

from collections.abc import Sequence

import pytest
from hypothesis import Phase, settings

_OPTIONS = ("-q", "--capture=no", "--assert=plain", "-p", "no:cacheprovider", "--hypothesis-seed=0")
_ON_SQLITE_ONLY = ("-k", "not postgresql")
"""Each fork would start a PostgreSQL server; the modules of the mutants have no SQL of one database."""


def run_pytest(arguments: Sequence[str], *plugins: object) -> int:
    """Return the exit code of pytest."""
    return int(pytest.main([*_OPTIONS, *_ON_SQLITE_ONLY, *arguments], plugins=[_Profile(), *plugins]))


class _Profile:
    """Hypothesis stores no examples, and does not shrink one that fails, which takes longer than to find it."""

    def pytest_collection(self) -> None:
        """Set the profile after that of ``tests/conftest.py``, and before the modules of the tests are imported."""
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings.get_profile("windlass"), phases=phases, database=None)
        settings.load_profile("mutants")
