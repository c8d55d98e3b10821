"""The admin key that an installation chooses, which each replica of the API creates when it starts."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.errors import InvalidError
from windlass.services.keys import Keys

REPLICAS, KEYS = 4, 10


def token(number: int, letter: str = "s") -> str:
    return f"wlk_{number:026}_{letter * 40}"


@pytest.mark.database("sqlite", "postgresql")
def test_replicas_that_start_at_the_same_time_create_one_key(ready: ControlPlaneHarness) -> None:
    barrier = Barrier(REPLICAS)

    def start(_replica: int) -> None:
        for number in range(KEYS):
            barrier.wait(60)
            Keys(ready.deps, ADMIN).ensure_admin(token(number), name="control plane")

    with ThreadPoolExecutor(REPLICAS) as executor:
        list(executor.map(start, range(REPLICAS)))
    for number in range(KEYS):
        assert ready.client_for_key(token(number)).get("/v1/whoami").json()["platform_role"] == "platform-admin"
    with ready.database.read() as uow:
        created = Counter(entry.subject for entry in uow.audit.all() if entry.action == "key.create")
    assert {f"key_{number:026}": created[f"key_{number:026}"] for number in range(KEYS)} == {
        f"key_{number:026}": 1 for number in range(KEYS)
    }


def test_a_key_with_another_secret_is_refused(ready: ControlPlaneHarness) -> None:
    keys = Keys(ready.deps, ADMIN)
    keys.ensure_admin(token(1), name="control plane")
    with pytest.raises(InvalidError, match="exists with another secret"):
        keys.ensure_admin(token(1, "t"), name="control plane")
