"""The step of the pipeline that users submit to a Kubeflow Pipelines server: submits a job to Windlass and follows it.

The job is one like any other, under the key of the caller: with quota, audit, and a run of its own.
"""

import math
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from windlass.domain.errors import WindlassError
from windlass.domain.jobs import JobState
from windlass.domain.training_report import Curve
from windlass.runtime.context import KFP_RUN_ID_VARIABLE
from windlass.sdk import Client, Job, JobDetail
from windlass.wire.jobs import EventOut, JobOut, MetricSeriesOut
from windlass_pipelines.report.curves import LOSSES
from windlass_pipelines.steps.server_step import RunArtifacts, TerminatedError, raise_on_sigterm


class JobNotSucceededError(Exception):
    """The job has failed or was cancelled. It fails the step."""


def submit_job(url: str, project: str, spec: Mapping[str, Any], artifacts: RunArtifacts) -> str:
    """Submit the job, wait for its end, describe its result in the artifacts, and return its id.

    A step that the server repeats, in the same run, follows the job that the first one has submitted. The key is in the
    environment, see ``windlass.sdk.Client``.

    Raises:
        JobNotSucceededError: the job has not succeeded.
        WindlassError: the job cannot be submitted; the message gives the reason.
    """
    with Client(url, project=project) as client:
        key = f"kfp-{os.environ[KFP_RUN_ID_VARIABLE]}"
        wanted = with_integers(spec)
        try:
            with raise_on_sigterm():
                job = client.jobs.create(wanted, idempotency_key=key)
                _write(f"job {job.id} of project {job.project}")
                _follow(job)
        except TerminatedError:
            with suppress(WindlassError):  # the key gives the job, also if the signal came before the reply
                client.jobs.cancel(client.jobs.create(wanted, idempotency_key=key).id)
            sys.exit(128 + signal.SIGTERM)
        ended = job.refresh()
        if ended.state is not JobState.SUCCEEDED:
            reason = f": {ended.reason.message}" if ended.reason is not None else ""
            raise JobNotSucceededError(f"job {ended.id} is {ended.state}{reason}")
        with suppress(WindlassError):  # the job has succeeded, and the artifacts only describe it
            _describe(client, url, ended, artifacts)
        return ended.id


def with_integers(value: Any) -> Any:
    """Return a JSON value with integers for its whole numbers: the server has only floating-point numbers."""
    if isinstance(value, Mapping):
        return {name: with_integers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [with_integers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _follow(job: Job) -> None:
    for message in job.stream():
        if isinstance(message, JobOut):
            reason = f": {message.reason.message}" if message.reason is not None else ""
            _write(f"{message.state}{reason}")
        elif isinstance(message, EventOut):
            _write(message.message)


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _describe(client: Client, url: str, job: JobDetail, artifacts: RunArtifacts) -> None:
    artifacts.add_metrics(job.evaluation or {})
    series = client.jobs.metrics(job.id, names=list(LOSSES)).series
    artifacts.write_losses(job.model, {each.name: _curve(each) for each in series})
    if job.model_version is None:
        return
    reference = f"{job.model}@{job.model_version}"
    version = client.models.version(reference)
    artifacts.model.uri = (
        f"{url.rstrip('/')}/v1/projects/{job.project}/models/{version.model}/versions/{version.number}"
    )
    artifacts.model.metadata |= {
        "name": version.model,
        "version": version.number,
        "sha256": version.digest,
        "job": job.id,
    }
    Path(artifacts.report.path).write_text(client.models.report_html(reference), encoding="utf-8")


def _curve(series: MetricSeriesOut) -> Curve:
    values = (math.nan if value is None else value for value in series.values)
    return tuple(zip(series.steps, values, strict=True))
