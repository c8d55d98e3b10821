"""Runs the contract of warm trainers on the fake; that of RayJobs is in tests/integration/cluster."""

from dataclasses import dataclass

import pytest
from tests.contracts.warm_trainers import WarmTrainerDriver, WarmTrainersContract
from tests.fakes.cluster import MemoryWarmTrainers

from windlass.domain.warm_trainers import Placement, WarmTrainerState
from windlass_api.process import SystemClock


@dataclass
class MemoryDriver:
    """Sets the states of the fake."""

    trainers: MemoryWarmTrainers
    place: Placement

    def admit(self, name: str) -> None:
        self.trainers.set_state(name, WarmTrainerState.ADMITTED)

    def claim(self, name: str) -> None:
        self.trainers.set_state(name, WarmTrainerState.CLAIMED)

    def end(self, name: str) -> None:
        self.trainers.set_state(name, WarmTrainerState.ENDED)


class TestMemoryWarmTrainers(WarmTrainersContract):
    @pytest.fixture
    def driver(self) -> WarmTrainerDriver:
        return MemoryDriver(MemoryWarmTrainers(SystemClock()), Placement("ours", "a100"))
