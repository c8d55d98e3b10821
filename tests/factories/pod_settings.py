"""Settings for runs, trainers and tasks in pods, with amounts that fit a small machine."""

from typing import Any

from windlass.kube.jobs.pipeline_backend import RunnerSettings
from windlass.kube.jobs.ray_job import RayJobSettings
from windlass.kube.jobs.result_tasks import TaskSettings


def ray_job_settings(**changes: Any) -> RayJobSettings:
    given = {
        "image": "bed.local/windlass/ray:dev",
        "ray_version": "2.60.0",
        "head_cpu": "200m",
        "head_memory_mib": 2048,
        "worker_cpu": "200m",
        "worker_memory_mib": 3072,
        "shared_memory_mib": 256,
        "drain_seconds": 60.0,
        **changes,
    }
    return RayJobSettings.model_validate(given)


def runner_settings(**changes: Any) -> RunnerSettings:
    given = {
        "image": "bed.local/windlass/pipelines:dev",
        "amounts": {"cpu": "100m", "memory": "512Mi"},
        "ray_job": ray_job_settings(),
        **changes,
    }
    return RunnerSettings(**given)


def task_settings(**changes: Any) -> TaskSettings:
    given = {
        "image": "bed.local/windlass/pipelines:dev",
        "amounts": {"cpu": "100m", "memory": "1024Mi"},
        "api_url": "http://windlass-internal.windlass-system.svc:8742",
        "deadline_seconds": 3600,
        **changes,
    }
    return TaskSettings(**given)
