"""Every test of this folder may use the cluster."""

from tests.bed.fixture import cluster
from tests.integration.cluster.installed import installed
from tests.integration.cluster.operating import operator
from tests.integration.cluster.serving import control_plane

__all__ = ["cluster", "control_plane", "installed", "operator"]
