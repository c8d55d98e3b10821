"""Turns the result of a finished attempt into a model version, and a wish to deploy into an endpoint."""

from dataclasses import dataclass
from datetime import datetime

from windlass.domain.endpoints import EndpointSpec, TrafficTarget
from windlass.domain.errors import ConflictError, FencedError, InvalidError
from windlass.domain.jobs import Attempt, Job, JobState, Owner, Reason, move
from windlass.domain.models import Decision, Model, ModelVersion, judge
from windlass.domain.records import LineageEdge
from windlass.domain.reports import Outcome, ResultItem
from windlass.ports import ProjectData
from windlass.services.backing import Backing, record
from windlass.services.endpoints import wish_endpoint
from windlass.services.history import tell
from windlass.services.runs import run_and_job


@dataclass(frozen=True)
class Registration:
    """The last steps of one run, asked for under its token."""

    backing: Backing
    run: str

    def register(self) -> tuple[ModelVersion, str]:
        """Make the model version of this run's result, once, and end the job. Returns it with the model's name.

        Raises:
            FencedError: the run has no finished attempt, or the job has ended otherwise.
            ConflictError: the model's name is taken by another task.
        """
        now = self.backing.clock.now()
        with self.backing.database.write() as work:
            inside, run, job = run_and_job(work, self.run)
            if job.model_version is not None:
                return inside.model_versions.get(id=job.model_version), job.spec.model
            attempt = inside.attempts.find(job=job.id, number=job.attempt)
            result = attempt.result if attempt is not None and attempt.run == run.id else None
            if attempt is None or result is None or result.outcome is not Outcome.SUCCEEDED:
                raise FencedError(f"run {run.number} of job {job.id} has no finished training to register")
            if job.state.terminal:
                raise FencedError(f"job {job.id} is {job.state}")
            model = _model_of(self.backing, inside, job, now)
            version = _version_of(self.backing, model, job, attempt, result, now)
            inside.model_versions.add(version)
            inside.models.save(model.model_copy(update={"last_number": version.number}))
            for relation, target in (
                ("produced-by", f"job:{job.id}"),
                ("trained-on", f"dataset-version:{job.dataset_version}"),
                ("tuned-from", f"base-model:{job.base_model}"),
            ):
                inside.lineage.add(
                    LineageEdge(
                        project=job.project, subject=f"model-version:{version.id}", relation=relation, object=target
                    )
                )
            made = {"model_version": version.id, "model_number": version.number}
            ended = move(job, JobState.SUCCEEDED, now, version.reason).model_copy(update=made)
            inside.jobs.save(ended)
            record(self.backing, work, job.id, "model-version.create", version.id, job.project)
            if job.spec.deploy is not None and version.decision is not Decision.REJECTED:
                # The pipeline's own step asks too; a run that dies before it must not lose the wish.
                work.outbox.put("job.deploy", job.project, job.id)
            said = f"{model.name} version {version.number} was registered as {version.decision}"
            tell(
                inside,
                job,
                now,
                "model_registered",
                said,
                attempt=attempt.number,
                facts={"decision": version.decision.value},
            )
        return version, model.name

    def deploy(self) -> str:
        """Wish that the job's endpoint serves the registered candidate. Raises as ``deploy_job``."""
        with self.backing.database.read() as work:
            _, _, job = run_and_job(work, self.run)
        return deploy_job(self.backing, job.project, job.id)


def deploy_job(backing: Backing, project: str, job_id: str) -> str:
    """Wish that the endpoint of a job's spec serves its version, and return the endpoint's name; again is a no-op.

    An endpoint that is there keeps its replicas and settings and gets new traffic; a rejected version is left alone.

    Raises:
        ConflictError: the job asks for no deployment, has no version yet, or the endpoint is being deleted.
        InvalidError: the endpoint cannot serve the version; the job's reason says so from now on.
    """
    with backing.database.write() as work:
        inside, now = work.of(project), backing.clock.now()
        job = inside.jobs.get(id=job_id)
        if job.spec.deploy is None or job.model_version is None:
            raise ConflictError("the job asks for no deployment, or has no version yet")
        name = job.spec.deploy.endpoint
        version = inside.model_versions.get(id=job.model_version)
        if version.decision is Decision.REJECTED:
            tell(inside, job, now, "deploy_skipped", f"endpoint {name} keeps what it serves: the version was rejected")
            return name
        target = TrafficTarget(model=job.spec.model, version=version.number)
        known = inside.endpoints.find(name=name)
        if known is not None and known.spec.traffic == (target,):
            return name
        spec = known.spec.model_copy(update={"traffic": (target,)}) if known else EndpointSpec(traffic=(target,))
        try:
            endpoint = wish_endpoint(backing, work, project, name, spec, job.created_by)
        except InvalidError as error:
            refused = error
        else:
            record(backing, work, job.id, "endpoint.deploy", endpoint.id, project)
            tell(inside, job, now, "deploy_requested", f"endpoint {name} will serve {job.spec.model}@{version.number}")
            return name
        reason = Reason(
            code="deploy_failed",
            message=f"{job.spec.model}@{version.number} is registered, but endpoint {name} cannot serve it: "
            f"{refused.message}",
            owner=Owner.YOU,
            action=refused.hint or "serve it under another endpoint",
        )
        if job.reason != reason:
            inside.jobs.save(move(job, job.state, now, reason))
            tell(inside, job, now, "deploy_failed", reason.message)
    raise refused


def _model_of(backing: Backing, inside: ProjectData, job: Job, now: datetime) -> Model:
    model = inside.models.find(name=job.spec.model)
    if model is None:
        model = Model(
            id=backing.new_id("mdl"), project=job.project, name=job.spec.model, task=job.spec.task, created_at=now
        )
        inside.models.add(model)
    if model.task is not job.spec.task:
        raise ConflictError(
            f"model {model.name} is for {model.task}, the job for {job.spec.task}", hint="name another model"
        )
    return model


def _version_of(
    backing: Backing, model: Model, job: Job, attempt: Attempt, result: ResultItem, now: datetime
) -> ModelVersion:
    evaluation = result.evaluation or {}
    decision, reason = judge(job.spec.evaluation.gates, evaluation)
    if result.manifest is None or result.artifact_prefix is None:
        raise ConflictError("the result names no artifact")
    return ModelVersion(
        id=backing.new_id("mv"),
        project=job.project,
        model=model.id,
        number=model.last_number + 1,
        decision=decision,
        reason=reason,
        evaluation=evaluation,
        job=job.id,
        attempt=attempt.number,
        dataset_version=job.dataset_version,
        base_model=job.base_model,
        prefix=result.artifact_prefix,
        manifest=result.manifest,
        created_at=now,
    )
