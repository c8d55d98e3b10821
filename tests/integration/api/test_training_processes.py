"""The number of training processes of a job: shown by a simulation, stored with the job, and given to its runs."""

import pytest
from tests.fakes.harness import ControlPlaneHarness


@pytest.mark.parametrize(("gpu_type", "world_size"), [("NVIDIA H200", 4), ("", 2)])
def test_every_gpu_has_a_training_process_and_cpu_slots_are_threads(
    ready: ControlPlaneHarness, gpu_type: str, world_size: int
) -> None:
    ready.create_project("wide", gpus=4)
    ready.create_dataset("wide", count=4000)
    with ready.database.write() as uow:
        pool = uow.pools.get({"name": "local"})
        uow.pools.save(pool.model_copy(update={"gpu_type": gpu_type, "capacity": 4}))
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    resources = {"workers": 2, "gpus_per_worker": 2}
    body = {"spec": spec | {"resources": resources}}
    simulated = ready.client.post("/v1/projects/wide/jobs:simulate", json=body).json()
    job = ready.submit("wide", key="1", resources=resources)
    ready.run_worker_once(2)
    context = ready.pipelines.contexts[ready.simulated_run(job).name]
    assert (simulated["world_size"], job["world_size"], context.inputs.world_size) == (world_size,) * 3
    steps_per_epoch = 4000 // (16 * world_size)
    assert simulated["training"]["epochs"] == -(-400 // steps_per_epoch), "steps take the rows of all processes"


def test_more_training_processes_than_rows_are_refused(ready: ControlPlaneHarness) -> None:
    with ready.database.write() as uow:
        pool = uow.pools.get({"name": "local"})
        uow.pools.save(pool.model_copy(update={"gpu_type": "NVIDIA H200", "capacity": 8}))
    spec = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "m"}
    body = {"spec": spec | {"resources": {"gpus_per_worker": 8}}}
    problem = ready.client.post("/v1/projects/ours/jobs:simulate", json=body).json()
    [error] = problem["errors"]
    assert (error["pointer"], problem["hint"]) == ("/spec/resources/gpus_per_worker", "use at most 4 GPUs")
    assert error["detail"] == "8 training processes need at least as many usable training rows; reviews has 4"
