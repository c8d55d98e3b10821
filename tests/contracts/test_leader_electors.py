"""Both electors fulfil the contract: a row of a real database, and a Kubernetes Lease with optimistic concurrency."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import Configuration
from tests.contracts.leader_elector import SECONDS, LeaderElectorContract, ManualClock
from tests.factories.databases import Kind, new_engine, using
from tests.fakes.backends import FakeClock

from windlass.db.session import SqlDatabase
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeConflictError
from windlass.kube.leader_election import LEASE, LeaderLease
from windlass.kube.objects import Object, Ref
from windlass.services.sync_lease import RowLease


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
class TestRowLease(LeaderElectorContract):
    @pytest.fixture(autouse=True)
    def candidates(self, tmp_path: Path, kind: Kind) -> Iterator[None]:
        with using(kind):
            database, self.clock = SqlDatabase(new_engine(tmp_path), FakeClock()), ManualClock()
            self.first, self.second = (
                RowLease(database, holder, timedelta(seconds=SECONDS), self.clock) for holder in ("one", "two")
            )
            yield
            database.close()


class LeaseApi(KubeClient):
    """Stores one Lease; a write of an old version conflicts, as on the API server. The cluster tests use a real one."""

    def __init__(self) -> None:
        super().__init__(Configuration())
        self.lease: Object | None = None

    def find(self, ref: Ref) -> Object | None:
        assert ref.kind == LEASE
        return deepcopy(self.lease)

    def create(self, manifest: Object, **_: Any) -> Object:
        if self.lease is not None:
            raise KubeConflictError("it exists")
        return self._store(manifest, 1)

    def replace(self, manifest: Object, **_: Any) -> Object:
        assert self.lease is not None
        version = self.lease["metadata"]["resourceVersion"]
        if manifest["metadata"]["resourceVersion"] != version:
            raise KubeConflictError("it changed")
        return self._store(manifest, int(version) + 1)

    def _store(self, manifest: Object, version: int) -> Object:
        metadata = manifest["metadata"] | {"resourceVersion": str(version)}
        self.lease = deepcopy(manifest) | {"metadata": metadata}
        return self.lease


class TestLeaderLease(LeaderElectorContract):
    @pytest.fixture(autouse=True)
    def candidates(self) -> None:
        api, ref, self.clock = LeaseApi(), Ref(LEASE, "windlass-operators", "windlass-system"), ManualClock()
        self.first, self.second = (LeaderLease(api, ref, name, SECONDS, self.clock) for name in ("one", "two"))
