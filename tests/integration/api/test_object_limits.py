"""Limits on the numbers of objects: the last allowed one is created, the next is refused, a deletion makes room."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.models import Model
from windlass.domain.specs import Task
from windlass.settings import LimitSettings

LIMIT = 2


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[ControlPlaneHarness]:
    """A control plane whose limits of objects are 2; the project has its creator as a member, and one dataset."""
    fields = ("datasets", "dataset_versions", "open_uploads", "models", "aliases", "members", "keys_per_user")
    limits: dict[str, Any] = {f"max_{name}": LIMIT for name in (*fields, "base_models")}
    harness = ControlPlaneHarness(tmp_path, limits=LimitSettings(key_cache_seconds=0, **limits))
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    yield harness
    harness.close()


def create_upload(harness: ControlPlaneHarness, number: int) -> Any:
    file = {"name": "a.csv", "bytes": 5, "sha256": hashlib.sha256(b"12345").hexdigest()}
    return harness.client.post("/v1/projects/ours/uploads", json={"dataset": "reviews", "files": [file]})


def add_base_model(harness: ControlPlaneHarness, number: int) -> Any:
    file = {"path": "config.json", "bytes": 5, "sha256": "0" * 64}
    body = {"name": f"b{number}", "licence": "mit", "source": "test", "files": [file]}
    return harness.client.post("/v1/base-models", json=body)


def submit(harness: ControlPlaneHarness, number: int) -> Any:
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": f"m{number}"}
    headers = {"Idempotency-Key": f"{number}"}
    return harness.client.post("/v1/projects/ours/jobs", json={"spec": spec}, headers=headers)


@dataclass(frozen=True)
class Kind:
    """How objects of a kind are created and deleted. ``existing``: how many there are at the start."""

    setting: str
    create: Callable[[ControlPlaneHarness, int], Any]
    delete: Callable[[ControlPlaneHarness, Any], Any]
    existing: int = 1


KINDS = [
    Kind(
        "DATASETS",
        lambda harness, n: harness.client.post(
            "/v1/projects/ours/datasets", json={"name": f"d{n}", "task": "text-classification"}
        ),
        lambda harness, made: harness.client.delete(
            f"/v1/projects/ours/datasets/{made['name']}", headers={"If-Match": '"1"'}
        ),
    ),
    Kind(
        "OPEN_UPLOADS",
        create_upload,
        lambda harness, made: harness.client.delete(f"/v1/projects/ours/uploads/{made['id']}"),
        existing=0,
    ),
    Kind(
        "MEMBERS",
        lambda harness, n: harness.client.put(f"/v1/projects/ours/members/u{n}", json={"role": "viewer"}),
        lambda harness, made: harness.client.delete(f"/v1/projects/ours/members/{made['name']}"),
    ),
    Kind(
        "KEYS_PER_USER",
        lambda harness, n: harness.client.post("/v1/keys", json={"user": "eve", "name": f"k{n}"}),
        lambda harness, made: harness.client.delete(f"/v1/keys/{made['id']}"),
        existing=0,
    ),
    Kind(
        "BASE_MODELS",
        add_base_model,
        lambda harness, made: harness.client.delete(f"/v1/base-models/{made['name']}"),
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.setting.lower())
def test_objects_beyond_the_limit_are_refused_until_one_is_deleted(limited: ControlPlaneHarness, kind: Kind) -> None:
    made = [kind.create(limited, number) for number in range(LIMIT - kind.existing)]
    assert all(reply.is_success for reply in made), made[0].text
    for _ in range(2):
        refused = kind.create(limited, 99)
        assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached"), refused.text
        assert refused.json()["context"] == {"number": LIMIT, "limit": LIMIT}
        assert refused.json()["hint"].endswith(f"raise WINDLASS_LIMIT_MAX_{kind.setting}")
    assert kind.delete(limited, made[0].json()).is_success
    assert kind.create(limited, 99).is_success


def test_a_refused_object_is_not_stored(limited: ControlPlaneHarness) -> None:
    for number in range(4):
        KINDS[0].create(limited, number)
        add_base_model(limited, number)
    assert len(limited.client.get("/v1/projects/ours/datasets").json()["items"]) == LIMIT
    assert len(limited.client.get("/v1/base-models").json()["items"]) == LIMIT


def test_the_role_of_a_member_changes_at_the_limit(limited: ControlPlaneHarness) -> None:
    for role in ("viewer", "editor"):
        reply = limited.client.put("/v1/projects/ours/members/u0", json={"role": role})
        assert (reply.status_code, reply.json()["role"]) == (200, role)


def test_renewals_are_limited_until_the_old_keys_expire(limited: ControlPlaneHarness) -> None:
    made = limited.client.post("/v1/keys", json={"user": "eve"}).json()
    first = limited.client.post(f"/v1/keys/{made['id']}:renew")
    assert first.status_code == 201
    assert limited.client.post(f"/v1/keys/{first.json()['id']}:renew").json()["code"] == "limit_reached"
    limited.clock.advance(timedelta(hours=2).total_seconds())
    assert limited.client.post(f"/v1/keys/{first.json()['id']}:renew").status_code == 201


def test_a_job_may_not_name_a_new_model_beyond_the_limit(limited: ControlPlaneHarness) -> None:
    with limited.database.write() as uow:
        project = uow.projects.get({"name": "ours"}).id
        for number in range(LIMIT):
            uow.project(project).models.add(
                Model(
                    id=limited.deps.new_id("mdl"),
                    project=project,
                    name=f"m{number}",
                    task=Task.TEXT_CLASSIFICATION,
                    created_at=limited.clock.now(),
                )
            )
    assert submit(limited, 0).status_code == 202
    refused = submit(limited, 7)
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")
    assert refused.json()["hint"].endswith("raise WINDLASS_LIMIT_MAX_MODELS")


def test_a_model_has_a_limited_number_of_aliases_that_can_be_moved(limited: ControlPlaneHarness) -> None:
    job = submit(limited, 0).json()
    limited.run_worker_once(2)
    run = limited.simulated_run(job)
    attempt = run.acquire_attempt().json()["attempt"]
    assert run.finish(attempt).status_code == 200

    def put(alias: str) -> Any:
        return limited.client.put(f"/v1/projects/ours/models/m0/aliases/{alias}", json={"version": 1})

    assert [put(alias).status_code for alias in ("one", "two", "one")] == [200] * 3
    refused = put("three")
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached")
    assert refused.json()["hint"].endswith("raise WINDLASS_LIMIT_MAX_ALIASES")


def clean(harness: ControlPlaneHarness, key: str) -> Any:
    body = {"steps": [{"op": "deduplicate"}]}
    url = "/v1/projects/ours/datasets/reviews/versions/1:clean"
    return harness.client.post(url, json=body, headers={"Idempotency-Key": key})


def test_versions_of_a_dataset_beyond_the_limit_are_refused_until_one_is_deleted(limited: ControlPlaneHarness) -> None:
    assert limited.client.post("/v1/projects/ours/datasets/reviews/versions/1:clean", json={}).status_code == 422
    made = clean(limited, "first")
    assert made.status_code == 202, made.text
    refused = clean(limited, "second")
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached"), refused.text
    assert refused.json()["context"] == {"number": LIMIT, "limit": LIMIT}
    assert refused.json()["hint"].endswith("raise WINDLASS_LIMIT_MAX_DATASET_VERSIONS")
    refused = create_upload(limited, 1)
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_reached"), "before its files are sent"
    assert clean(limited, "first").json()["id"] == made.json()["id"], "a repeated request returns its version"
    with limited.database.write() as uow:
        uow.all_projects().dataset_versions.delete({"id": made.json()["id"]})
    assert clean(limited, "second").status_code == 202
