"""Every test of this folder may use the cluster."""

from tests.bed.fixture import cluster
from tests.integration.cluster.installed import installed
from tests.integration.cluster.operating import operator

__all__ = ["cluster", "installed", "operator"]
