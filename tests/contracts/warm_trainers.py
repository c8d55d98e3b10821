"""The contract of every ``ports.WarmTrainers``."""

from typing import Protocol

import pytest

from windlass.domain.warm_trainers import Placement, WarmTrainerState, new_warm_trainer_name
from windlass.ports import WarmTrainers
from windlass.runtime.context import WarmTrainerContext


class WarmTrainerDriver(Protocol):
    """Plays those who decide about warm trainers."""

    @property
    def trainers(self) -> WarmTrainers:
        """What is tested."""
        ...

    @property
    def place(self) -> Placement:
        """Where it may create warm trainers."""
        ...

    def admit(self, name: str) -> None:
        """Give a warm trainer its quota."""
        ...

    def claim(self, name: str) -> None:
        """Let a run claim a warm trainer."""
        ...

    def end(self, name: str) -> None:
        """End the process of a warm trainer."""
        ...


def create(driver: WarmTrainerDriver) -> str:
    """Create a warm trainer and return its name."""
    name, project = new_warm_trainer_name(), driver.place.project
    context = WarmTrainerContext(api_url="http://control-plane", token="secret", project=project, name=name)
    driver.trainers.create(driver.place, name, context)
    return name


def states(driver: WarmTrainerDriver) -> dict[str, WarmTrainerState]:
    """The state of each warm trainer."""
    return {each.name: each.state for each in driver.trainers.list()}


class WarmTrainersContract:
    """Subclasses provide the fixture ``driver``."""

    def test_a_new_one_is_pending(self, driver: WarmTrainerDriver) -> None:
        assert states(driver) == {}
        name = create(driver)
        [found] = driver.trainers.list()
        assert (found.project, found.pool, found.name) == (*driver.place, name)
        assert (found.state, found.outdated) == (WarmTrainerState.PENDING, False)

    def test_it_is_created_once(self, driver: WarmTrainerDriver) -> None:
        name = create(driver)
        context = WarmTrainerContext(api_url="", token="", project=driver.place.project, name=name)
        driver.trainers.create(driver.place, name, context)
        assert list(states(driver)) == [name]

    @pytest.mark.parametrize("ended", [True, False])
    def test_its_state_is_observed_until_it_is_deleted(self, driver: WarmTrainerDriver, *, ended: bool) -> None:
        name = create(driver)
        driver.admit(name)
        assert states(driver) == {name: WarmTrainerState.ADMITTED}
        if ended:
            driver.end(name)
            assert states(driver) == {name: WarmTrainerState.ENDED}
        [trainer] = driver.trainers.list()
        driver.trainers.delete(trainer)
        driver.trainers.delete(trainer)
        assert states(driver) == {}

    def test_one_that_a_run_has_claimed_meanwhile_is_not_deleted(self, driver: WarmTrainerDriver) -> None:
        name = create(driver)
        driver.admit(name)
        [trainer] = driver.trainers.list()
        driver.claim(name)
        driver.trainers.delete(trainer)
        assert states(driver) == {name: WarmTrainerState.CLAIMED}
