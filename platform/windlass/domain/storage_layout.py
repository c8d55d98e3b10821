"""Where every file is in the object store: the only place that builds keys and prefixes.

A project's files are all below its prefix, so that deleting the project deletes them.
"""

from windlass.domain.datasets import Upload
from windlass.domain.jobs import Job


def published_file_key(folder: str, digest: str, path: str) -> str:
    """Return the key of a file of a folder that is published in a bucket; the manifest is ``<folder>/manifest.json``.

    ``digest``: ``Manifest.digest`` of the folder. So publishers of different contents never write the same key, and the
    manifest decides whose files are the folder's.
    """
    return f"{folder}/{digest}/{path}"


def project_prefix(project: str) -> str:
    """Return the prefix of all files of a project."""
    return f"projects/{project}"


def project_of(key: str) -> str | None:
    """Return the project that a key belongs to, None for one of the platform."""
    root, _, rest = key.partition("/")
    return rest.partition("/")[0] if root == "projects" and rest else None


BASE_MODELS = "base-models"
"""Prefix of all base models, which belong to no project."""


def base_model_prefix(model: str) -> str:
    """Return the prefix of a base model."""
    return f"{BASE_MODELS}/{model}"


def base_model_upload_key(model: str, number: int) -> str:
    """Return the key of a staged file of a base model: its position, because a user chose its name."""
    return f"{base_model_upload_prefix(model)}/{number}"


def base_model_upload_prefix(model: str) -> str:
    """Return the prefix of the staged files of a base model that is uploaded."""
    return f"base-model-uploads/{model}"


def task_result_prefix(task: str) -> str:
    """Return the prefix of the result of a data task or an import that runs as a pod.

    A task has the id of its dataset version or base model. Its result is deleted when it is stored in the database, and
    with the version or the model.
    """
    return f"task-results/{task}"


def upload_prefix(project: str, upload: str) -> str:
    """Return the prefix of an upload's staged files."""
    return f"{project_prefix(project)}/uploads/{upload}"


def upload_key(upload: Upload, name: str) -> str:
    """Return the key of a staged file: its position in the upload, because a user chose its name."""
    number = next(index for index, file in enumerate(upload.files) if file.name == name)
    return f"{upload_prefix(upload.project, upload.id)}/{number}"


def dataset_version_prefix(project: str, version: str) -> str:
    """Return the prefix of a dataset version: its manifest and one file for each split."""
    return f"{project_prefix(project)}/datasets/{version}"


def job_prefix(project: str, job: str) -> str:
    """Return the prefix of all files of a job."""
    return f"{project_prefix(project)}/jobs/{job}"


def log_key(job: Job) -> str:
    """Return the key of a job's log."""
    return f"{job_prefix(job.project, job.id)}/log"


def artifacts_prefix(job: Job) -> str:
    """Return the prefix of the artifacts of all attempts of a job."""
    return f"{job_prefix(job.project, job.id)}/artifacts"


def artifact_prefix(job: Job, attempt: int) -> str:
    """Return the prefix of the artifact of an attempt."""
    return f"{artifacts_prefix(job)}/{attempt}"


def checkpoints_prefix(job: Job) -> str:
    """Return the prefix of a job's checkpoints: ``<prefix>/<attempt>/<step>/``."""
    return f"{job_prefix(job.project, job.id)}/checkpoints"
