"""A job gives the same result embedded and in the cluster; a chat job trains and answers in the cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.servers import server
from tests.factories.small_jobs import SPEC, ensure_test_data
from tests.factories.tiny_models import tiny_chat_model, tiny_encoder
from tests.factories.training_runs import chat_rows
from tests.integration.cluster.chain.installation import Installation

from windlass.domain.endpoints import EndpointState
from windlass.domain.jobs import JobState
from windlass.sdk import Client
from windlass.wire.jobs import JobOut

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
TRAINING = {**SPEC["training"], "max_steps": 60, "eval_every_steps": 20, "seed": 7}
TOLERANCE = 0.02
"""Relative: the sums of different numbers of threads differ in the last digits, and training amplifies that."""


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Client]:
    with server(tmp_path / "home") as running:
        client = running.start()
        ensure_test_data(client, tiny_encoder(tmp_path / "tiny"), tmp_path)
        yield client


def losses(client: Client, job: JobOut) -> dict[int, float]:
    return {point.step: point.value for point in client.jobs.metric_points(job.id, "train_loss") if point.value}


def numbers(client: Client, reference: str) -> dict[str, float]:
    evaluation = client.models.version(reference).evaluation
    return {name: value for name, value in evaluation.items() if isinstance(value, int | float)}


def test_the_same_job_has_the_same_result_embedded_and_in_the_cluster(
    installation: Installation, embedded: Client
) -> None:
    jobs = {
        installation.client: installation.submit("same", training=TRAINING),
        embedded: embedded.jobs.create({**SPEC, "name": "same", "model": "same", "training": TRAINING}),
    }
    for client, job in jobs.items():
        assert client.jobs.wait(job.id, timeout=400).state == JobState.SUCCEEDED, client.jobs.get(job.id).reason
    ours, theirs = (client.datasets.version(SPEC["dataset"]) for client in jobs)
    assert (ours.digest, ours.rows) == (theirs.digest, theirs.rows)
    in_cluster, on_machine = (losses(client, job) for client, job in jobs.items())
    assert len(in_cluster) > 3
    assert in_cluster == pytest.approx(on_machine, rel=TOLERANCE)
    result, expected = (numbers(client, "same@1") for client in jobs)
    assert result
    assert result == pytest.approx(expected, rel=TOLERANCE)


def test_a_chat_job_trains_and_its_model_answers(installation: Installation, tmp_path: Path) -> None:
    client = installation.client
    client.base_models.add("tiny-chat", str(tiny_chat_model(tmp_path / "tiny-chat")))
    client.base_models.wait("tiny-chat")
    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(120)), "utf-8")
    uploaded = client.datasets.upload("chats", [source], task="chat")
    client.datasets.wait(uploaded.ref)
    job = installation.submit(
        "chat", task="chat", base_model="tiny-chat", dataset="chats", training={**TRAINING, "max_steps": 40}
    )
    installation.succeeded(job)
    client.endpoints.create("chat", {"traffic": [{"model": "chat", "version": 1, "weight": 100}]})
    assert client.endpoints.wait("chat", timeout=240).state is EndpointState.READY
    reply = client.endpoints.chat("chat", [{"role": "user", "content": "is the screen good?"}], max_tokens=4)
    assert reply.raw["usage"]["completion_tokens"] > 0
    client.endpoints.delete("chat")
