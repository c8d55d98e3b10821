"""Programs and files of Go modules that tests use on this machine, without a cluster; built once and cached."""

from pathlib import Path

from tests.testcluster import versions
from tests.testcluster.builds import BuiltGroup, build_all
from tests.testcluster.layout import default_cache


def built(group: str) -> BuiltGroup:
    """A group of ``versions.toml``."""
    return build_all([versions.read()[group]], default_cache(), lambda _text, _seconds: None)[group]


def tool(group: str) -> Path:
    """The first binary of a group."""
    entry = built(group)
    return entry.binary(entry.group.main)
