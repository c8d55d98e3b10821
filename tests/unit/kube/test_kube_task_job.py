"""The state of a task, from its Job and its pods."""

from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import Configuration

from windlass.kube.client import KubeClient
from windlass.kube.jobs.result_tasks import ResultTasks, TaskSettings
from windlass.kube.jobs.task_job import TaskJob, TaskState
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.names import PAUSED_ANNOTATION
from windlass.storage.local import LocalObjectStore

Json = dict[str, Any]


def job(*conditions: str, suspend: bool = False, paused: bool = False) -> Json:
    listed = [{"type": each, "status": "True", "message": f"it is {each}"} for each in conditions]
    metadata = {"annotations": {PAUSED_ANNOTATION: "true"}} if paused else {}
    return {"metadata": metadata, "spec": {"suspend": suspend or paused}, "status": {"conditions": listed}}


def pod(state: Json | None = None, **status: Any) -> Pod:
    containers = [] if state is None else [{"name": "main", "state": state}]
    return Pod.parse({"metadata": {"name": "p"}, "status": {"containerStatuses": containers, **status}})


def ended(code: int, message: str = "", reason: str = "") -> Json:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


@pytest.mark.parametrize(
    ("subject", "pods", "state"),
    [
        (job(), [], TaskState.RUNNING),
        (job(), [pod({"running": {}})], TaskState.RUNNING),
        (job(), [pod(ended(1)), pod({"running": {}})], TaskState.RUNNING),
        (job(), [pod(ended(0))], TaskState.ENDED),
        (job("Complete"), [], TaskState.ENDED),
        (job("Failed"), [pod(ended(1))], TaskState.FAILED),
        (job(suspend=True), [], TaskState.STOPPED),
        (job(suspend=True), [pod(ended(0))], TaskState.ENDED),
        (job("Failed", suspend=True), [], TaskState.FAILED),
        (job(paused=True), [], TaskState.PAUSED),
        (job(paused=True), [pod(ended(0))], TaskState.ENDED),
        (job("Complete", paused=True), [], TaskState.ENDED),
    ],
)
def test_the_state_of_a_task(subject: Json, pods: list[Pod], state: TaskState) -> None:
    assert TaskJob(subject, pods).state is state


def test_the_message_is_that_of_the_pod_that_has_ended_well() -> None:
    assert TaskJob(job(), [pod(ended(137, "killed")), pod(ended(0, "result"))]).message == "result"
    assert TaskJob(job("Complete"), []).message is None


@pytest.mark.parametrize(
    ("pods", "cause"),
    [
        ([pod(ended(137, reason="OOMKilled"))], "exceeded its memory limit"),
        ([pod(ended(1, "no such table"))], "ended with exit code 1: no such table"),
        ([pod(ended(137, reason="Error"))], "was killed by signal 9: Error"),
        ([pod(ended(255, reason="Error"))], "ended with exit code 255: Error"),
        ([pod(ended(1, "a line of a log\n" * 100 + "no such table"))], "a line of a log no such table"),
        ([pod(None, reason="Evicted", message="The node was low on resource: memory.")], "low on resource: memory"),
        ([], "it is Failed"),
    ],
)
def test_why_a_task_has_failed(pods: list[Pod], cause: str) -> None:
    assert cause in TaskJob(job("Failed"), pods).failure


def test_a_task_that_waits_for_its_image_has_a_reason() -> None:
    waiting = pod({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}, phase="Pending")
    reason = TaskJob(job(), [waiting]).reason
    assert reason is not None
    assert reason.code == "image_pull_failed"
    assert TaskJob(job(), [pod({"waiting": {"reason": "ContainerCreating"}}, phase="Pending")]).reason is None


class ObservedTasks(TaskJobs):
    """The Jobs of a namespace, of which one was observed."""

    def __init__(self, task: TaskJob | None) -> None:
        super().__init__(KubeClient(Configuration()), "windlass-system")
        self.task = task

    def find(self, name: str) -> TaskJob | None:
        assert name == "dsv-1"
        return self.task


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (None, ""),
        (TaskJob({"metadata": {}, **job()}, [pod({"running": {}}, phase="Running")]), ""),
        (TaskJob({"metadata": {}, **job("Failed")}, [pod(ended(1))]), ""),
        (
            TaskJob(
                {"metadata": {}, **job()},
                [pod({"waiting": {"reason": "ErrImagePull", "message": "not found"}}, phase="Pending")],
            ),
            "not found; Ask an admin to fix the image's name or the access to its registry",
        ),
    ],
)
def test_why_the_pod_of_a_dataset_does_not_run(tmp_path: Path, task: TaskJob | None, problem: str) -> None:
    settings = TaskSettings(image="i", amounts={}, api_url="http://api", deadline_seconds=1)
    tasks = ResultTasks("data", ObservedTasks(task), LocalObjectStore(tmp_path), settings)
    assert tasks.problem("dsv_1").endswith(problem)
    assert bool(tasks.problem("dsv_1")) == bool(problem)
