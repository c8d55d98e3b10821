"""Facts to wire models. A response that shows a versioned object carries its version as ETag."""

from typing import Any

from fastapi import Response

from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.endpoints import Endpoint
from windlass.domain.jobs import Attempt, Job, Reason, Run
from windlass.domain.mirror import QuotaChange, Share
from windlass.domain.models import CatalogueModel, Model
from windlass.domain.projects import ApiKey, Member, Project
from windlass.domain.quota import Simulation
from windlass.domain.specs import Task
from windlass.services.pools import PoolView
from windlass.services.quotas import Foreseen, Line
from windlass.wire.base import ReasonOut
from windlass.wire.datasets import DatasetOut, DatasetVersionOut, UploadFileOut, UploadOut
from windlass.wire.jobs import AttemptOut, BaseModelOut, JobOut, RunOut, SimulationOut
from windlass.wire.models import EndpointOut, LiveTargetOut, ModelOut
from windlass.wire.projects import (
    AffectedOut,
    KeyOut,
    MemberOut,
    PoolOut,
    ProjectOut,
    QuotaChangeOut,
    QuotaOut,
    WaitingOut,
)

_SHOWN = 100
"""Waiting jobs that a line of the ledger names."""


def tag(response: Response | None, version: int) -> None:
    """Put the version on the response."""
    if response is not None:
        response.headers["ETag"] = f'"{version}"'


def reason_out(reason: Reason | None) -> ReasonOut | None:
    """Map a reason."""
    return None if reason is None else ReasonOut(**reason.model_dump())


def project_out(project: Project, response: Response | None = None) -> ProjectOut:
    """Map a project."""
    tag(response, project.version)
    return ProjectOut(uid=project.id, **project.model_dump(exclude={"id"}))


def member_out(member: Member) -> MemberOut:
    """Map a member."""
    return MemberOut(user=member.user, role=member.role.value, version=member.version)


def key_out(key: ApiKey) -> KeyOut:
    """Map a key, without its hash."""
    return KeyOut(**key.model_dump(exclude={"secret_hash"}))


def pool_out(view: PoolView, response: Response | None = None) -> PoolOut:
    """Map a pool with its GPUs in use."""
    tag(response, view.pool.version)
    return PoolOut(in_use=view.in_use, nominal=view.nominal, **view.pool.model_dump(exclude={"id"}))


def quota_out(line: Line) -> QuotaOut:
    """Map a line of the ledger."""
    row, quota = line.account.row, line.quota
    return QuotaOut(
        project=row.project,
        pool=row.pool,
        cohort=line.project.cohort,
        used=row.used,
        overcommitted=line.account.overcommitted,
        borrowed_from=dict(row.borrowed_from),
        lent_to=dict(row.lent_to),
        reclaimable=row.reclaimable,
        free=row.free,
        pending=row.pending,
        waiting=[
            WaitingOut(
                job=each.claim.job,
                gpus=each.claim.gpus,
                priority=each.claim.priority,
                position=each.verdict.position,
                reason=reason_out(line.reasons.get(each.claim.job, each.verdict.reason)),
            )
            for each in line.account.waiting[:_SHOWN]
        ],
        wait_p50_seconds=line.waits.p50,
        wait_p90_seconds=line.waits.p90,
        **quota.model_dump(exclude={"project", "pool"}),
    )


def change_out(change: QuotaChange, foreseen: Foreseen | None = None, *, checked: bool = False) -> QuotaChangeOut:
    """Map a change; what it would do is known when it is made."""
    share = change.share.model_dump() if change.share else dict.fromkeys(Share.model_fields)
    done = foreseen or Foreseen()
    return QuotaChangeOut(
        id=None if checked else change.id,
        project=change.name,
        pool=change.pool,
        state="checked" if checked and not change.problem else change.state.value,
        problem=change.problem,
        preempts=[AffectedOut(job=job, project=project) for job, project in done.preempts.items()],
        starts=[AffectedOut(job=job, project=project) for job, project in done.starts.items()],
        created_at=change.created_at,
        ended_at=change.ended_at,
        **share,
    )


def dataset_out(dataset: Dataset, latest: int | None, response: Response | None = None) -> DatasetOut:
    """Map a dataset with the number of its newest ready version."""
    tag(response, dataset.version)
    return DatasetOut(latest=latest, **dataset.model_dump(exclude={"project", "last_number"}))


def dataset_version_out(name: str, version: DatasetVersion, response: Response | None = None) -> DatasetVersionOut:
    """Map a dataset version; its report has a route of its own."""
    tag(response, version.version)
    findings = version.report.findings if version.report else ()
    return DatasetVersionOut(
        ref=f"{name}@{version.number}",
        dataset=name,
        steps=[step.model_dump(mode="json") for step in version.steps],
        errors=sum(finding.severity == "error" for finding in findings),
        warnings=sum(finding.severity == "warning" for finding in findings),
        labels=list(version.labels),
        **version.model_dump(
            include={"id", "number", "state", "task", "origin", "parent", "converter_version", "digest", "rows"}
            | {"problem", "created_at"}
        ),
    )


def upload_out(project: str, upload: Upload, dataset: Dataset, made: DatasetVersion | None) -> UploadOut:
    """Map an upload; each file carries the path to PUT its bytes to."""
    base = f"/v1/projects/{project}/uploads/{upload.id}/files"
    files = [
        UploadFileOut(
            name=file.name,
            bytes=file.entry.bytes,
            sha256=file.entry.sha256,
            split=file.split,
            received=file.received,
            url=f"{base}/{file.name}",
        )
        for file in upload.files
    ]
    return UploadOut(
        id=upload.id,
        dataset=dataset.name,
        state=upload.state.value,
        files=files,
        dataset_version=upload.dataset_version,
        number=made.number if made else None,
        created_at=upload.created_at,
    )


def base_model_out(entry: CatalogueModel) -> BaseModelOut:
    """Map a base model; where it lies on the server's disk stays there."""
    return BaseModelOut(**entry.model_dump(exclude={"id", "path", "prefix", "version"}))


def run_out(run: Run) -> RunOut:
    """Map a run."""
    return RunOut(**run.model_dump(include={"number", "name", "state", "steps", "created_at", "ended_at"}))


def attempt_out(attempt: Attempt, runs: dict[str, int]) -> AttemptOut:
    """Map an attempt; ``runs`` gives a run's number by its id."""
    fields = attempt.model_dump(include={"number", "state", "resumed_from_step", "claimed_at", "ended_at"})
    return AttemptOut(run=runs.get(attempt.run, 0), **fields)


def job_fields(project: str, job: Job) -> dict[str, Any]:
    """Return the fields that the short and the long form of a job share."""
    planned = job.steps_planned
    return {
        **job.model_dump(
            include={"id", "state", "attempt", "run", "retry_of", "created_by", "created_at", "queued_at", "started_at"}
            | {"finished_at", "version"}
        ),
        "project": project,
        "name": job.spec.name,
        "spec": job.spec,
        "reason": reason_out(job.reason),
        "dataset": job.dataset_ref,
        "model": job.spec.model,
        "model_version": job.model_number,
        "progress": min(1.0, job.steps_done / planned) if planned else None,
    }


def job_out(project: str, job: Job) -> JobOut:
    """Map a job."""
    return JobOut(**job_fields(project, job))


def simulation_out(simulation: Simulation, mine: set[str]) -> SimulationOut:
    """Map a simulation; jobs of other projects are counted, not named."""
    changes = " or ".join(change.sentence for change in simulation.smallest_change)
    reason = reason_out(simulation.reason)
    others = len([job for job in simulation.would_preempt if job not in mine])
    if reason is not None and others:
        reason = reason.model_copy(update={"facts": {**reason.facts, "preempts_of_others": others}})
    return SimulationOut(
        verdict=simulation.verdict,
        position=simulation.position,
        reason=reason,
        would_preempt=[job for job in simulation.would_preempt if job in mine],
        smallest_change=changes or None,
    )


def model_out(model: Model, response: Response | None = None) -> ModelOut:
    """Map a model."""
    tag(response, model.version)
    return ModelOut(latest=model.last_number or None, **model.model_dump(exclude={"project", "last_number"}))


def endpoint_out(project: str, endpoint: Endpoint, response: Response | None = None) -> EndpointOut:
    """Map an endpoint."""
    tag(response, endpoint.version)
    tail = ":predict" if endpoint.task is Task.TEXT_CLASSIFICATION else "/chat/completions"
    return EndpointOut(
        live=[LiveTargetOut(**target.model_dump(include={"model", "number", "weight"})) for target in endpoint.live],
        reason=reason_out(endpoint.reason),
        predict_url=f"/v1/projects/{project}/endpoints/{endpoint.name}{tail}",
        spec=endpoint.spec,
        **endpoint.model_dump(
            include={"id", "name", "task", "state", "generation", "observed_generation", "ready_replicas"}
            | {"created_at", "changed_at", "version"}
        ),
    )
