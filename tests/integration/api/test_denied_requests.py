"""A flood of denied requests leaves a bounded number of audit entries, and none is uncounted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness

from windlass.audit_settings import AuditSettings
from windlass.domain.audit import AuditEntry, AuditOutcome
from windlass.domain.errors import UnavailableError
from windlass.services.denials import DenialLog, DeniedRequest
from windlass_api.metrics import REGISTRY


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    harness = ControlPlaneHarness(tmp_path, audit=AuditSettings(denied_entries_per_caller=3, denied_entries=5))
    harness.application.worker.loops.stop()
    with harness.client:
        yield harness
    harness.close()


def denied(harness: ControlPlaneHarness) -> list[AuditEntry]:
    with harness.database.read() as uow:
        return uow.audit.all({"outcome": AuditOutcome.DENIED})


def denials(harness: ControlPlaneHarness) -> DenialLog:
    return harness.app_context.denials


def anonymous(harness: ControlPlaneHarness, address: str) -> TestClient:
    return TestClient(harness.app, client=(address, 1), raise_server_exceptions=False)


def flood(client: TestClient, requests: int) -> None:
    for _ in range(requests):
        assert client.post("/v1/keys", json={"user": "x"}).status_code in {401, 403}


def test_requests_above_the_limit_of_a_caller_are_counted_in_one_entry(limited: ControlPlaneHarness) -> None:
    flood(anonymous(limited, "192.0.2.1"), 10)
    flood(limited.client_for_user("eve"), 10)
    assert len(denied(limited)) == 6
    assert denials(limited).step() == 60.0, "the minute is not over"
    limited.clock.advance(60)
    assert denials(limited).step() is None
    counted = {
        (each.actor, each.address): each.count for each in denied(limited) if each.action == "request.suppressed"
    }
    assert counted == {("anonymous", "192.0.2.1"): 7, ("eve", ""): 7}
    assert sum(each.count for each in denied(limited)) == 20
    flood(anonymous(limited, "192.0.2.1"), 1)
    assert len(denied(limited)) == 9, "a new minute begins"


def test_a_flood_from_many_addresses_is_limited_and_hides_no_user(limited: ControlPlaneHarness) -> None:
    for number in range(40):
        flood(anonymous(limited, f"192.0.2.{number}"), 2)
    flood(limited.client_for_user("eve"), 1)
    assert [each.actor for each in denied(limited)] == ["anonymous"] * 5 + ["eve"]
    denials(limited).flush()
    entries = denied(limited)
    assert len(entries) <= 5 + 1 + 17
    assert sum(each.count for each in entries) == 81
    assert {each.actor for each in entries} == {"anonymous", "eve", "others"}


def test_a_flood_that_goes_on_is_counted_every_minute(limited: ControlPlaneHarness) -> None:
    client = anonymous(limited, "192.0.2.1")
    for minute in range(1, 4):
        flood(client, 5)
        limited.clock.advance(60)
        if minute == 1:
            denials(limited).step()
    flood(client, 1)  # begins another minute before the loop runs
    denials(limited).step()
    assert sum(each.count for each in denied(limited)) == 16


def test_a_failure_to_record_denies_all_the_same_and_is_counted_later(
    limited: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(log: DenialLog, request: DeniedRequest, count: int) -> None:
        raise UnavailableError("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(DenialLog, "_write", fail)
        flood(anonymous(limited, "192.0.2.1"), 2)
        with pytest.raises(UnavailableError):
            denials(limited).flush()
    assert denied(limited) == []
    denials(limited).flush()
    assert [(each.action, each.count) for each in denied(limited)] == [("request.suppressed", 2)]


def test_a_server_that_stops_writes_what_it_has_counted(tmp_path: Path) -> None:
    harness = ControlPlaneHarness(tmp_path, audit=AuditSettings(denied_entries_per_caller=1))
    with harness.client:
        flood(anonymous(harness, "192.0.2.1"), 4)
    assert harness.application.api_loops is not None
    harness.application._stop_api_loops(harness.application.api_loops)
    assert [each.count for each in denied(harness)] == [1, 3]
    harness.close()


def test_the_age_of_unsealed_entries_is_a_metric(limited: ControlPlaneHarness) -> None:
    def age() -> float | None:
        return REGISTRY.get_sample_value("windlass_audit_unsealed_seconds")

    limited.worker.seal_audit()
    assert age() == 0.0
    with limited.database.write() as uow:
        uow.audit.add(
            AuditEntry(id="aud_1", time=limited.clock.now(), actor="ada", project=None, action="x", count=2**31 - 1)
        )
    limited.clock.advance(30)

    def fail() -> int:
        raise UnavailableError("the database does not answer")

    limited.worker.sealer.seal = fail  # type: ignore[method-assign]  # a fault
    with pytest.raises(UnavailableError):
        limited.worker.seal_audit()
    assert age() == 30.0
