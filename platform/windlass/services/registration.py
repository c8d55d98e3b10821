"""Registers the result of a finished attempt as a model version, and deploys it to the job's endpoint."""

from dataclasses import dataclass
from datetime import datetime

from windlass.domain.endpoints import EndpointSpec, TrafficTarget
from windlass.domain.errors import ConflictError, FencedError, InvalidError, LimitReachedError
from windlass.domain.jobs import ActionOwner, Attempt, Job, JobState, Reason, move
from windlass.domain.models import Decision, Model, ModelVersion, evaluate_gates
from windlass.domain.records import LineageEdge
from windlass.domain.reports import ResultItem, ResultStatus
from windlass.domain.storage_layout import artifact_prefix
from windlass.kit.failpoints import failpoint
from windlass.ports import ProjectData, ReadProjectData, UnitOfWork
from windlass.services.attempts import result_attempt, run_and_job
from windlass.services.base import ServiceDependencies, record_audit
from windlass.services.endpoints import set_endpoint_spec
from windlass.services.job_events import record_event
from windlass.services.runs import admitted
from windlass.services.storage_limit import excess_bytes, fail_for_storage


@dataclass(frozen=True)
class Registration:
    """Registration and deployment of one run, requested with the run's token."""

    deps: ServiceDependencies
    run: str

    def register(self) -> tuple[ModelVersion, str]:
        """Create the model version of this run's result and end the job; idempotent. Returns version and model name.

        Raises:
            FencedError: the run has no successful attempt, or the job has ended or was cancelled.
            ConflictError: the model's name is taken by another task.
            LimitReachedError: the files of the project exceed its limit; the job has failed.
        """
        now = self.deps.clock.now()
        with self.deps.database.read() as uow:
            _, job = run_and_job(uow, self.run)
        excess = excess_bytes(self.deps, job.project)
        with self.deps.database.write() as uow:
            run, job = run_and_job(uow, self.run)
            repos = uow.project(job.project)
            if job.model_version is not None:
                return repos.model_versions.get({"id": job.model_version}), job.spec.model
            attempt = result_attempt(repos, run, job)
            result = attempt.result if attempt is not None else None
            if attempt is None or result is None or result.outcome is not ResultStatus.SUCCEEDED:
                raise FencedError(f"run {run.number} of job {job.id} has no finished training to register")
            if job.state.terminal or job.state is JobState.CANCELLING:
                raise FencedError(f"job {job.id} is {job.state}")
            outcome = (
                fail_for_storage(repos, job, excess, self.deps.limits.stored_bytes, now)
                if excess
                else self._create_version(uow, job, attempt, result, now)
            )
            failpoint("register.before_commit")
        failpoint("register.committed")
        if isinstance(outcome, LimitReachedError):
            raise outcome
        return outcome

    def _create_version(
        self, uow: UnitOfWork, job: Job, attempt: Attempt, result: ResultItem, now: datetime
    ) -> tuple[ModelVersion, str]:
        repos = uow.project(job.project)
        model = _get_or_create_model(self.deps, repos, job, now)
        version = _build_version(self.deps, model, job, attempt, result, now, purposes=_purposes(repos, job))
        repos.model_versions.add(version)
        repos.models.save(model.model_copy(update={"last_number": version.number}))
        for relation, target in (
            ("produced-by", f"job:{job.id}"),
            ("trained-on", f"dataset-version:{job.dataset_version}"),
            ("tuned-from", f"base-model:{job.base_model}"),
        ):
            repos.lineage.add(
                LineageEdge(
                    project=job.project, subject=f"model-version:{version.id}", relation=relation, object=target
                )
            )
        update = {
            "model_version": version.id,
            "model_number": version.number,
            "decision": version.decision.value,
            "warnings": version.warnings,
        }
        repos.jobs.save(move(admitted(job, now), JobState.SUCCEEDED, now, version.reason).model_copy(update=update))
        name = f"{model.name}@{version.number}"
        record_audit(
            self.deps,
            uow,
            job.id,
            "model-version.create",
            version.id,
            name,
            project=job.project,
            change=(None, version),
        )
        if job.spec.deploy is not None and version.decision is not Decision.REJECTED:
            # The deploy step requests this too, but the run may die before that step.
            uow.outbox.put("job.deploy", job.project, job.id)
        message = f"{model.name} version {version.number} was registered as {version.decision}"
        record_event(
            repos,
            job,
            now,
            "model_registered",
            message,
            attempt=attempt.number,
            context={"decision": version.decision.value},
        )
        return version, model.name

    def deploy(self) -> str:
        """Deploy the registered version to the job's endpoint. Raises as ``deploy_job``."""
        with self.deps.database.read() as uow:
            _, job = run_and_job(uow, self.run)
        return deploy_job(self.deps, job.project, job.id)


def deploy_job(deps: ServiceDependencies, project: str, job_id: str) -> str:
    """Route the job's endpoint to its model version and return the endpoint's name.

    This happens once, however often it is requested: a later decision of a person, or of a job that was accepted after
    this one, stands. An existing endpoint keeps its replicas and settings; only its traffic changes. A rejected version
    is not deployed.

    Raises:
        ConflictError: the job requests no deployment, has no version yet, or the endpoint is being deleted.
        InvalidError: the endpoint cannot serve the version; the job's reason is set to ``deploy_failed``.
        LimitReachedError: the project may have no more endpoints or replicas; the reason is set likewise.
    """
    with deps.database.write() as uow:
        repos, now = uow.project(project), deps.clock.now()
        job = repos.jobs.get({"id": job_id})
        if job.spec.deploy is None or job.model_version is None:
            raise ConflictError("the job requests no deployment, or has no model version yet")
        name = job.spec.deploy.endpoint
        if job.deploy_done_at is not None:
            return name
        version = repos.model_versions.get({"id": job.model_version})
        if version.decision is Decision.REJECTED:
            record_event(repos, job, now, "deploy_skipped", f"endpoint {name} is unchanged: the version was rejected")
            return name
        target = TrafficTarget(model=job.spec.model, version=version.number)
        existing = repos.endpoints.find({"name": name})
        done = job.model_copy(update={"deploy_done_at": now})
        if existing is not None and existing.deploy_job is not None and existing.deploy_job > job.id:
            message = f"endpoint {name} is unchanged: job {existing.deploy_job}, accepted later, was deployed before"
            record_event(repos, repos.jobs.save(done), now, "deploy_superseded", message)
            return name
        spec = existing.spec.model_copy(update={"traffic": (target,)}) if existing else EndpointSpec(traffic=(target,))
        try:
            endpoint = set_endpoint_spec(deps, uow, project, name, spec, job.created_by)
        except (InvalidError, LimitReachedError) as error:
            refusal = error
        else:
            deployed = repos.endpoints.save(endpoint.model_copy(update={"deploy_job": job.id}))
            repos.jobs.save(done)
            change = (existing, deployed)
            record_audit(deps, uow, job.id, "endpoint.deploy", endpoint.id, name, project=project, change=change)
            message = f"endpoint {name} will serve {job.spec.model}@{version.number}"
            record_event(repos, job, now, "deploy_requested", message)
            return name
        reason = Reason(
            code="deploy_failed",
            message=f"{job.spec.model}@{version.number} is registered, but endpoint {name} cannot serve it: "
            f"{refusal.message}",
            action_by=ActionOwner.USER,
            action=refusal.hint or "serve it under another endpoint",
        )
        if job.reason != reason:
            repos.jobs.save(move(job, job.state, now, reason))
            record_event(repos, job, now, "deploy_failed", reason.message)
    raise refusal


def _get_or_create_model(deps: ServiceDependencies, repos: ProjectData, job: Job, now: datetime) -> Model:
    model = repos.models.find({"name": job.spec.model})
    if model is None:
        model = Model(
            id=deps.new_id("mdl"), project=job.project, name=job.spec.model, task=job.spec.task, created_at=now
        )
        repos.models.add(model)
    if model.task is not job.spec.task:
        raise ConflictError(
            f"model {model.name} is for {model.task}, the job for {job.spec.task}", hint="name another model"
        )
    return model


def _purposes(repos: ReadProjectData, job: Job) -> tuple[str, ...]:
    """Return what the job's dataset may be used for."""
    version = repos.dataset_versions.find({"id": job.dataset_version})
    dataset = None if version is None else repos.datasets.find({"id": version.dataset})
    return () if dataset is None else dataset.purposes


def _build_version(
    deps: ServiceDependencies,
    model: Model,
    job: Job,
    attempt: Attempt,
    result: ResultItem,
    now: datetime,
    *,
    purposes: tuple[str, ...],
) -> ModelVersion:
    evaluation = result.evaluation or {}
    decision, reason = evaluate_gates(job.spec.evaluation.gates, evaluation)
    if result.manifest is None:
        raise ConflictError("the result has no artifact")
    return ModelVersion(
        id=deps.new_id("mv"),
        project=job.project,
        model=model.id,
        number=model.last_number + 1,
        decision=decision,
        reason=reason,
        evaluation=evaluation,
        warnings=(*job.warnings, *result.warnings),
        job=job.id,
        attempt=attempt.number,
        dataset_version=job.dataset_version,
        base_model=job.base_model,
        purposes=purposes,
        prefix=artifact_prefix(job, attempt.number),
        manifest=result.manifest,
        created_at=now,
    )
