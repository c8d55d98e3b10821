"""Jobs that cannot fit into the memory of the pool's GPUs are refused at submission and in a simulation."""

from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.datasets import Histogram, Split, SplitReport, ValidationReport

GIB = 1 << 30
TOKENIZER = "tokenizer.json sha256:0123456789ab"


@pytest.fixture
def server(ready: ControlPlaneHarness) -> ControlPlaneHarness:
    """A pool of GPUs with 24 GiB, a base model with 2**30 weights, and rows of 128 tokens."""
    with ready.database.write() as uow:
        pool, base = uow.pools.get({"name": "local"}), uow.base_models.get({"name": "tiny"})
        uow.pools.save(pool.model_copy(update={"gpu_memory_bytes": 24 * GIB}))
        size = {"parameters": GIB, "activations_per_token": 1 << 20, "tokenizer": TOKENIZER}
        uow.base_models.save(base.model_copy(update=size))
        [version] = uow.all_projects().dataset_versions.all()
        tokens = Histogram(edges=(128, 129), counts=(4000,))
        report = ValidationReport(
            findings=(), tokenizer=TOKENIZER, splits={Split.TRAIN: SplitReport(rows=4000, tokens=tokens)}
        )
        rows = {Split.TRAIN: 4000, Split.VALIDATION: 4}
        uow.project(version.project).dataset_versions.save(version.model_copy(update={"rows": rows, "report": report}))
    return ready


def submit(server: ControlPlaneHarness, *, simulate: bool = False, **spec: Any) -> Any:
    body = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"} | spec
    url = "/v1/projects/ours/jobs" + (":simulate" if simulate else "")
    return server.client.post(url, json={"spec": body}, headers={} if simulate else {"Idempotency-Key": "k"})


@pytest.mark.parametrize("simulate", [False, True])
def test_a_job_above_the_memory_of_a_gpu_is_refused(server: ControlPlaneHarness, simulate: bool) -> None:
    training = {"batch_size": 32, "precision": "fp32"}
    reply = submit(server, simulate=simulate, method={"type": "full"}, training=training)
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (422, "invalid")
    [error] = problem["errors"]
    assert error["pointer"] == "/spec/resources/pool"
    assert error["detail"] == (
        "the training needs at least 28.0 GiB on each GPU (weights 4.0 GiB, optimizer 8.0 GiB, gradients 4.0 GiB, "
        "activations 16.0 GiB); a GPU of pool local has 24.0 GiB"
    )
    assert problem["hint"] == (
        "set training.gradient_accumulation to 2, use method lora, use a pool with more memory per GPU, "
        "or use a smaller base model"
    )
    assert server.client.get("/v1/projects/ours/jobs").json()["items"] == []


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ({"type": "full"}, {"batch_size": 32, "precision": "fp32", "gradient_accumulation": 2}),
        ({"type": "lora"}, {"batch_size": 32, "precision": "fp32"}),
        ({"type": "full"}, {"batch_size": 16, "precision": "fp32"}),
    ],
)
def test_what_the_hint_proposes_is_accepted(
    server: ControlPlaneHarness, method: dict[str, Any], training: dict[str, Any]
) -> None:
    assert submit(server, method=method, training=training).status_code == 202


def test_a_pool_with_larger_gpus_is_proposed(server: ControlPlaneHarness) -> None:
    created = server.client.post("/v1/pools", json={"name": "large", "capacity": 1, "gpu_memory_bytes": 80 * GIB})
    assert created.json()["gpu_memory_bytes"] == 80 * GIB
    problem = submit(server, method={"type": "full"}, training={"batch_size": 64, "precision": "fp32"}).json()
    assert "use pool large," in problem["hint"]


def test_nothing_is_refused_without_the_memory_of_the_pool(server: ControlPlaneHarness) -> None:
    version = server.client.get("/v1/pools/local").headers["etag"]
    changed = server.client.patch("/v1/pools/local", json={"gpu_memory_bytes": None}, headers={"If-Match": version})
    assert changed.json()["gpu_memory_bytes"] is None
    assert submit(server, method={"type": "full"}, training={"batch_size": 512}).status_code == 202


def test_lengths_counted_with_another_tokenizer_are_not_used(server: ControlPlaneHarness) -> None:
    with server.database.write() as uow:
        base = uow.base_models.get({"name": "tiny"})
        uow.base_models.save(base.model_copy(update={"tokenizer": "tokenizer.json sha256:ba9876543210"}))
    assert submit(server, method={"type": "full"}, training={"batch_size": 512}).status_code == 202
