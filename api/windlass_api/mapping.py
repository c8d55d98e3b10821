"""Maps domain objects to wire models. Responses with a versioned object carry its version as ETag."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Response

from windlass.domain.cluster_sync import QuotaChange, QuotaSpec
from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.endpoint_traffic import TrafficCounts, TrafficSeries
from windlass.domain.endpoints import Endpoint, prediction_path
from windlass.domain.jobs import Attempt, Job, Reason, Run
from windlass.domain.models import CatalogueModel, Model
from windlass.domain.projects import ApiKey, Member, Project
from windlass.domain.records import Deletion
from windlass.domain.reports import JobWarning
from windlass.domain.specs import TrainingSpec
from windlass.services.jobs import JobPreview
from windlass.services.pools import PoolView
from windlass.services.quotas import ChangePreview, LedgerEntry
from windlass.wire.base import DeletionOut, JobWarningOut, ReasonOut
from windlass.wire.datasets import DatasetOut, DatasetVersionOut, UploadFileOut, UploadOut
from windlass.wire.jobs import AttemptOut, BaseModelFileOut, BaseModelOut, DefaultOut, JobOut, RunOut, SimulationOut
from windlass.wire.models import (
    EndpointOut,
    EndpointTrafficOut,
    LiveTargetOut,
    ModelOut,
    TrafficCountsOut,
    TrafficPointOut,
)
from windlass.wire.projects import (
    JobImpactOut,
    KeyOut,
    MemberOut,
    PendingJobOut,
    PoolOut,
    ProjectOut,
    QuotaChangeOut,
    QuotaOut,
)

_MAX_PENDING_JOBS_SHOWN = 100
"""Maximum number of pending jobs in a quota."""


def set_etag(response: Response | None, version: int) -> None:
    """Set the ETag header."""
    if response is not None:
        response.headers["ETag"] = f'"{version}"'


def reason_out(reason: Reason | None) -> ReasonOut | None:
    """Map a reason."""
    return None if reason is None else ReasonOut(**reason.model_dump())


def deletion_out(deletion: Deletion) -> DeletionOut:
    """Map what a deletion removes."""
    return DeletionOut(**deletion.model_dump())


def project_out(project: Project, response: Response | None = None) -> ProjectOut:
    """Map a project."""
    set_etag(response, project.version)
    return ProjectOut(uid=project.id, **project.model_dump(exclude={"id"}))


def member_out(member: Member) -> MemberOut:
    """Map a member."""
    return MemberOut(kind=member.kind.value, name=member.name, role=member.role.value, version=member.version)


def key_out(key: ApiKey, project_names: Mapping[str, str]) -> KeyOut:
    """Map a key, without its hash; ``project_names`` are those of the projects by uid."""
    project = None if key.project is None else project_names.get(key.project, key.project)
    permissions = None if key.permissions is None else [permission.value for permission in key.permissions]
    exclude = {"secret_hash", "project", "permissions", "service_account"}
    return KeyOut(project=project, permissions=permissions, **key.model_dump(exclude=exclude))


def pool_out(view: PoolView, response: Response | None = None) -> PoolOut:
    """Map a pool with its GPUs in use."""
    set_etag(response, view.pool.version)
    return PoolOut(in_use=view.in_use, nominal=view.nominal, **view.pool.model_dump(exclude={"id"}))


def quota_out(entry: LedgerEntry) -> QuotaOut:
    """Map a quota with its usage."""
    row, quota = entry.account.row, entry.quota
    return QuotaOut(
        project=row.project,
        pool=row.pool,
        cohort=entry.project.cohort,
        used=row.used,
        overcommitted=entry.account.overcommitted,
        borrowed_from=dict(row.borrowed_from),
        lent_to=dict(row.lent_to),
        reclaimable=row.reclaimable,
        free=row.free,
        pending=row.pending,
        waiting=[
            PendingJobOut(
                job=item.demand.job,
                gpus=item.demand.gpus,
                priority=item.demand.priority,
                position=item.decision.position,
                reason=reason_out(entry.reasons.get(item.demand.job, item.decision.reason)),
            )
            for item in entry.account.waiting[:_MAX_PENDING_JOBS_SHOWN]
        ],
        queue_time_p50_seconds=entry.queue_times.p50,
        queue_time_p90_seconds=entry.queue_times.p90,
        **quota.model_dump(exclude={"project", "pool"}),
    )


def quota_change_out(
    change: QuotaChange, preview: ChangePreview | None = None, *, checked: bool = False
) -> QuotaChangeOut:
    """Map a quota change; the preview of affected jobs exists only when it is created."""
    spec = change.spec.model_dump() if change.spec else dict.fromkeys(QuotaSpec.model_fields)
    preview = preview or ChangePreview()
    return QuotaChangeOut(
        id=None if checked else change.id,
        project=change.name,
        pool=change.pool,
        state="checked" if checked and not change.problem else change.state.value,
        problem=change.problem,
        preempts=[JobImpactOut(job=job, project=project) for job, project in preview.preempts.items()],
        starts=[JobImpactOut(job=job, project=project) for job, project in preview.starts.items()],
        created_at=change.created_at,
        ended_at=change.ended_at,
        **spec,
    )


def dataset_out(dataset: Dataset, latest: int | None, response: Response | None = None) -> DatasetOut:
    """Map a dataset with the number of its newest ready version."""
    set_etag(response, dataset.version)
    return DatasetOut(latest=latest, **dataset.model_dump(exclude={"project", "last_number"}))


def dataset_version_out(name: str, version: DatasetVersion, response: Response | None = None) -> DatasetVersionOut:
    """Map a dataset version without its report, which has a separate route."""
    set_etag(response, version.version)
    findings = version.report.findings if version.report else ()
    return DatasetVersionOut(
        ref=f"{name}@{version.number}",
        dataset=name,
        options=version.options,
        steps=[step.model_dump(mode="json") for step in version.steps],
        errors=sum(finding.severity == "error" for finding in findings),
        warnings=sum(finding.severity == "warning" for finding in findings),
        labels=list(version.labels),
        **version.model_dump(
            include={"id", "number", "state", "task", "origin", "parent", "converter_version", "digest", "rows"}
            | {"problem", "created_at"}
        ),
    )


def upload_out(
    project: str, upload: Upload, dataset: Dataset, version: DatasetVersion | None, *, takes_parts: bool
) -> UploadOut:
    """Map an upload; each file has the URL path to PUT its bytes to, or the one that signs its parts."""
    base = f"/v1/projects/{project}/uploads/{upload.id}/files"
    files = [
        UploadFileOut(
            name=file.name,
            bytes=file.entry.bytes,
            sha256=file.entry.sha256,
            split=file.split,
            received=file.received,
            url=f"{base}/{file.name}",
            parts_url=f"{base}/{file.name}:sign-parts" if takes_parts else None,
        )
        for file in upload.files
    ]
    return UploadOut(
        id=upload.id,
        dataset=dataset.name,
        state=upload.state.value,
        files=files,
        dataset_version=upload.dataset_version,
        number=version.number if version else None,
        created_at=upload.created_at,
    )


def base_model_out(entry: CatalogueModel, received: Sequence[int]) -> BaseModelOut:
    """Map a base model without its path on the server's disk; ``received`` has the bytes of its declared files."""
    base = f"/v1/base-models/{entry.name}/files"
    files = [
        BaseModelFileOut(path=file.path, bytes=file.entry.bytes, received=count, url=f"{base}/{quote(file.path)}")
        for file, count in zip(entry.files, received, strict=True)
    ]
    return BaseModelOut(files=files, **entry.model_dump(include=set(BaseModelOut.model_fields) - {"files"}))


def run_out(run: Run) -> RunOut:
    """Map a run."""
    return RunOut(**run.model_dump(include={"number", "name", "state", "steps", "created_at", "ended_at"}))


def attempt_out(attempt: Attempt, runs: dict[str, int]) -> AttemptOut:
    """Map an attempt; ``runs`` maps run ids to run numbers."""
    fields = attempt.model_dump(include={"number", "state", "resumed_from_step", "acquired_at", "ended_at"})
    return AttemptOut(run=runs.get(attempt.run, 0), **fields)


def warnings_out(warnings: Iterable[JobWarning]) -> list[JobWarningOut]:
    """Map the warnings of a job."""
    return [JobWarningOut(**warning.model_dump()) for warning in warnings]


def job_fields(project: str, job: Job) -> dict[str, Any]:
    """Return the fields shared by ``JobOut`` and ``JobDetailOut``."""
    planned = job.steps_planned
    return {
        **job.model_dump(
            include={"id", "state", "attempt", "run", "retry_of", "created_by", "created_at", "queued_at", "started_at"}
            | {"finished_at", "version", "decision", "world_size"}
        ),
        "project": project,
        "name": job.name,
        "spec": job.spec,
        "reason": reason_out(job.reason),
        "warnings": warnings_out(job.warnings),
        "dataset": job.dataset_ref,
        "model": job.spec.model,
        "model_version": job.model_number,
        "progress": min(1.0, job.steps_done / planned) if planned else None,
    }


def job_out(project: str, job: Job) -> JobOut:
    """Map a job."""
    return JobOut(**job_fields(project, job))


def simulation_out(preview: JobPreview, own_jobs: set[str]) -> SimulationOut:
    """Map a preview; jobs of other projects are only counted."""
    simulation = preview.simulation
    suggestions = " or ".join(suggestion.text for suggestion in simulation.smallest_change)
    reason = reason_out(simulation.reason)
    others = len([job for job in simulation.would_preempt if job not in own_jobs])
    if reason is not None and others:
        reason = reason.model_copy(update={"context": {**reason.context, "preempts_of_others": others}})
    return SimulationOut(
        verdict=simulation.verdict,
        position=simulation.position,
        reason=reason,
        would_preempt=[job for job in simulation.would_preempt if job in own_jobs],
        smallest_change=suggestions or None,
        training=TrainingSpec.model_validate(preview.plan.training.model_dump()),
        world_size=preview.world_size,
        defaults=[DefaultOut(**default.model_dump()) for default in preview.plan.chosen],
        warnings=warnings_out(preview.warnings),
    )


def model_out(model: Model, response: Response | None = None, *, erasures: Sequence[str] = ()) -> ModelOut:
    """Map a model; ``erasures`` are the ids of those that wait for one of its versions."""
    set_etag(response, model.version)
    return ModelOut(
        erasure_pending=list(erasures),
        latest=model.last_number or None,
        **model.model_dump(exclude={"project", "last_number"}),
    )


def endpoint_traffic_out(series: TrafficSeries) -> EndpointTrafficOut:
    """Map the requests to an endpoint over time."""
    return EndpointTrafficOut(
        since=series.interval.start,
        until=series.interval.end,
        step_seconds=round(series.step.total_seconds()),
        total=TrafficCountsOut(**_traffic_values(series.total)),
        points=[TrafficPointOut(at=point.at, **_traffic_values(point.counts)) for point in series.points],
    )


def _traffic_values(counts: TrafficCounts) -> dict[str, Any]:
    return {
        **counts.model_dump(exclude={"latencies"}),
        "requests": counts.requests,
        "p50_milliseconds": counts.percentile(0.5),
        "p95_milliseconds": counts.percentile(0.95),
    }


def endpoint_out(
    project: str,
    endpoint: Endpoint,
    response: Response | None = None,
    *,
    purposes: Sequence[str],
    erasures: Sequence[str],
) -> EndpointOut:
    """Map an endpoint, with what its models may be used for, and the ids of the erasures that wait for it."""
    set_etag(response, endpoint.version)
    return EndpointOut(
        live=[LiveTargetOut(**target.model_dump(include={"model", "number", "weight"})) for target in endpoint.live],
        reason=reason_out(endpoint.reason),
        predict_url=prediction_path(project, endpoint),
        spec=endpoint.spec,
        purposes=list(purposes),
        erasure_pending=list(erasures),
        **endpoint.model_dump(
            include={"id", "name", "task", "state", "generation", "observed_generation"}
            | {"ready_replicas", "desired_replicas", "created_at", "changed_at", "version"}
        ),
    )
