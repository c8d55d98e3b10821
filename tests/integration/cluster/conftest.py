"""The fixtures of the cluster tests."""

from collections.abc import Iterator

import pytest
from tests.factories.s3_server import s3_server
from tests.integration.cluster.control_plane_process import control_plane
from tests.integration.cluster.installed import installed
from tests.integration.cluster.operator_process import operator
from tests.testcluster import lifecycle
from tests.testcluster.fixture import cluster, command
from tests.testcluster.layout import LocalCluster, default_cache, default_state

__all__ = ["cluster", "control_plane", "installed", "operator", "s3_server"]


def reset() -> Iterator[None]:
    yield
    running = LocalCluster(default_state(), default_cache())
    if lifecycle.is_up(running):
        ended = command(running, "reset")
        assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module", autouse=True)
def reset_cluster() -> Iterator[None]:
    """Delete what the tests of a module created, so that modules pass in any order."""
    yield from reset()
