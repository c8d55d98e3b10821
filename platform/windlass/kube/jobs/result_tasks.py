"""Programs that run as one pod each and publish a result in the object store, which outlives the pod and its Job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from windlass.domain.artifacts import MANIFEST_NAME
from windlass.domain.errors import NotFoundError
from windlass.domain.storage_layout import task_result_prefix
from windlass.kube.jobs.pod_spec import CONTEXT_PATH, WORKSPACE_PATH, RestrictedPod
from windlass.kube.jobs.task_job import TaskJob, TaskState, task_job
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.objects import Object
from windlass.orchestration.task_result import RESULT_NAME, read_result
from windlass.ports import ObjectStore, TaskFailedError
from windlass.runtime.context import TRANSFER_TOKEN_VARIABLE, TRANSFER_URL_VARIABLE

MODELS_PATH: Final = "/models"
"""Where the volume with base models is mounted."""
_REQUEST, _TOKEN = "request.json", "token"
_KEPT_SECONDS: Final = 7 * 24 * 3600
"""Kubernetes deletes the Job of an ended task after this time if nothing else has deleted it."""


@dataclass(frozen=True)
class TaskSettings:
    """The installation's settings for one kind of task."""

    image: str
    amounts: Mapping[str, str]
    """Requests and limits."""
    api_url: str
    """Where its pods get access to their files."""
    deadline_seconds: int
    """Time from the creation of a task after which it fails, also while it waits for its pod."""
    models_claim: str = ""
    """PersistentVolumeClaim with base models to import; empty: none."""


class ResultTasks:
    """The tasks of one kind, named by the id of their subject: dataset version or base model.

    A pod is replaced when the cluster evicts it, and not when its program fails: the caller decides about that. A
    replacement whose predecessor has published the result exits at once.
    """

    def __init__(self, kind: str, tasks: TaskJobs, store: ObjectStore, settings: TaskSettings) -> None:
        self._kind, self._tasks, self._store, self.settings = kind, tasks, store, settings

    def start(self, name: str, program: Sequence[str], request: str, token: str) -> None:
        """Create the Job of a task; a no-op when it has begun before.

        Args:
            name: the id of the subject.
            program: the command; the path of the request and further options are appended.
            request: the content of the request, as JSON.
            token: of the files of the task.

        Raises:
            UnavailableError: it cannot be created now; nothing has begun.
        """
        if self._find(name) is None and not self._has_result(name):
            self._tasks.create(self._manifest(name, program), {_REQUEST: request, _TOKEN: token})

    def poll(self, name: str) -> bytes | None:
        """Return the result, None while the task runs, waits for its pod, or is suspended.

        Raises:
            NotFoundError: it has not begun, is deleted, or its Job was deleted before it had a result.
            TaskFailedError: it ended without a result; the text has the cause.
            UnavailableError: the API server or the object store cannot be reached.
        """
        task = self._find(name)
        if task is not None and not _has_ended(task):
            return None
        if self._has_result(name):
            with self._store.open(self._store.published_file(task_result_prefix(name), RESULT_NAME)) as stream:
                return read_result(stream)
        task = self._tasks.read(_job_name(name))  # the cache may be older than a deletion or a new start
        if task is None:
            raise NotFoundError(f"no {self._kind} task {name}")
        if not _has_ended(task):
            return None
        cause = task.failure if task.state is TaskState.FAILED else "it ended without a result"
        raise TaskFailedError(f"the {self._kind} task failed: {cause}")

    def problem(self, name: str) -> str:
        """Return why the pod of a task does not run now; empty if it does, and when the task has ended."""
        task = self._find(name)
        reason = task.reason if task is not None and not _has_ended(task) else None
        return "" if reason is None else f"{reason.message}; {reason.action}"

    def delete(self, name: str) -> None:
        """Stop a task, and delete its Job and its result.

        Raises:
            UnavailableError: its pod does not end, or the API server or the object store cannot be reached.
        """
        self._tasks.delete(_job_name(name))
        self._store.delete(task_result_prefix(name))

    def _find(self, name: str) -> TaskJob | None:
        """Return the Job of a task; one that is being deleted may be in the cache for a moment."""
        task = self._tasks.find(_job_name(name))
        return None if task is None or "deletionTimestamp" in task.job["metadata"] else task

    def _has_result(self, name: str) -> bool:
        return self._store.size(f"{task_result_prefix(name)}/{MANIFEST_NAME}") > 0

    def _manifest(self, name: str, program: Sequence[str]) -> Object:
        result = self._store.uri(task_result_prefix(name))
        options = (f"{CONTEXT_PATH}/{_REQUEST}", "--work", WORKSPACE_PATH, "--publish-result", result)
        settings = self.settings
        template = RestrictedPod(
            container=self._kind,
            image=settings.image,
            amounts=settings.amounts,
            secret=_job_name(name),
            command=("tini", "--", *program, *options),
            reports_log=True,
            claims={MODELS_PATH: settings.models_claim} if settings.models_claim else {},
            variables={
                TRANSFER_URL_VARIABLE: settings.api_url,
                TRANSFER_TOKEN_VARIABLE: f"{CONTEXT_PATH}/{_TOKEN}",
            },
        )
        manifest = task_job(self._kind, _job_name(name), self._tasks.namespace, template)
        manifest["spec"] |= {
            "backoffLimit": 0,
            "activeDeadlineSeconds": settings.deadline_seconds,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
        }
        return manifest


def _job_name(name: str) -> str:
    """Return the name of the Job of a subject, as ``dsv-<26>``: ids have an underscore, which is no part of a name."""
    return name.replace("_", "-")


def _has_ended(task: TaskJob) -> bool:
    return task.state in (TaskState.ENDED, TaskState.FAILED)
