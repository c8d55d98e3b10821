"""Every test of this folder may use the cluster."""

from tests.bed.fixture import cluster

__all__ = ["cluster"]
