"""A data directory with many queued jobs."""

from datetime import timedelta
from pathlib import Path

from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.jobs import Job, JobState
from windlass.domain.specs import JobSpec
from windlass.settings import LimitSettings

PROJECT = "bench"
MAX_ACTIVE_JOBS = 100_000
SPEC = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}


def seed(home: Path, queued: int, *, blocked: bool) -> ControlPlaneHarness:
    """Create a control plane with ``queued`` jobs; ``blocked``: the first one can never start and blocks the queue."""
    home.mkdir()
    harness = ControlPlaneHarness(home, limits=LimitSettings(max_active_jobs=MAX_ACTIVE_JOBS, key_cache_seconds=5))
    project = harness.create_project(PROJECT)
    harness.create_base_model()
    harness.create_dataset(PROJECT)
    with harness.database.write() as uow:
        # The pool has room for the first job and the project's quota of 1 has not, so it stays at the head.
        pool = uow.pools.get({"name": "local"})
        uow.pools.save(pool.model_copy(update={"capacity": 2}))
        repos = uow.project(project)
        [version], [base] = repos.dataset_versions.all(), uow.base_models.all()
        for number in range(queued):
            gpus = 2 if blocked and number == 0 else 1
            spec = JobSpec.model_validate({**SPEC, "resources": {"pool": "local", "gpus_per_worker": gpus}})
            queued_at = harness.clock.now() + timedelta(seconds=number)
            job = Job(
                id=harness.deps.new_id("job"),
                project=project,
                spec=spec,
                state=JobState.QUEUED,
                dataset_version=version.id,
                dataset_ref="reviews@1",
                base_model=base.id,
                world_size=1,
                created_by="admin",
                created_at=queued_at,
                changed_at=queued_at,
                queued_at=queued_at,
            )
            repos.jobs.add(job)
    return harness
