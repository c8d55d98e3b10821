"""The worker: carries out intents and keeps looking at jobs, datasets and endpoints. Loops of one process."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from windlass.domain.errors import InvalidError, WindlassError
from windlass.domain.jobs import JobState, Run, RunState, move
from windlass.domain.records import Intent
from windlass.ports import PipelineBackend, RayCluster
from windlass.runtime.context import RunContext
from windlass.runtime.draining import drain_ended
from windlass.services.access import Gatekeeper
from windlass.services.backing import Backing
from windlass.services.datasets import version_prefix
from windlass.services.processing import Processing
from windlass.services.registration import deploy_job
from windlass.services.retention import Retention
from windlass.services.rollouts import Rollouts
from windlass.services.runs import Runs, artifact_prefix, checkpoint_prefix
from windlass.services.scheduling import Scheduling
from windlass.settings import WorkerSettings
from windlass_api.metrics import INTENTS, LOOP_FAILURES

_log = logging.getLogger(__name__)

_PARALLEL_INTENTS = 4
_RETRY_SECONDS = (1, 2, 5, 15, 60)
_STALLED_SECONDS = 60.0
_START_TRIES = 6
"""Tries to start a run, over about a minute and a half, before it counts as lost and its job queues again."""


def scheduling(
    backing: Backing, backend: PipelineBackend, settings: WorkerSettings, workspace: Callable[[str], Path]
) -> Scheduling:
    """Return the scheduler that these settings describe; ``workspace`` gives the folder of a run by its name."""
    up_since = backing.clock.now()

    def leftovers(run: Run) -> bool:
        runs = Runs(backing, run.id, timedelta(seconds=settings.heartbeat_seconds), up_since)
        return drain_ended(workspace(run.name), runs.report)

    return Scheduling(
        backing,
        backend,
        preempt_grace=timedelta(seconds=settings.preempt_grace_seconds),
        cancel_grace=timedelta(seconds=settings.cancel_grace_seconds),
        lost_runs=settings.lost_runs,
        leftovers=leftovers,
    )


@dataclass
class Worker:
    """Runs until ``stop``. Everything it does can be done again: a crash between any two lines loses nothing."""

    backing: Backing
    gatekeeper: Gatekeeper
    scheduling: Scheduling
    processing: Processing
    rollouts: Rollouts
    retention: Retention
    backend: PipelineBackend
    ray: RayCluster
    settings: WorkerSettings
    api_url: str
    workspace: Callable[[str], Path]
    """Returns the run folder of a run name: where its processes may write."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _turns: dict[str, float] = field(default_factory=dict)
    _nudges: dict[str, threading.Event] = field(default_factory=dict)
    _hands: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_PARALLEL_INTENTS, thread_name_prefix="intent")
    )
    _busy: list[Future[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin the loops."""
        loops: dict[str, Callable[[], bool]] = {
            "intents": self._hand_out,
            "runs": self._runs,
            "bytes": self._bytes,
            "endpoints": self._endpoints,
            "retention": self._retention,
        }
        for name, turn in loops.items():
            self._turns[name], self._nudges[name] = time.monotonic(), threading.Event()
            thread = threading.Thread(target=self._loop, args=(name, turn), name=f"worker-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the loops; each finishes its turn."""
        self._stopping.set()
        self._nudge()
        for thread in self._threads:
            thread.join()
        self._hands.shutdown(cancel_futures=True)

    def stalled(self) -> str:
        """Return which loop has not turned for a minute, or an empty string."""
        late = [name for name, at in self._turns.items() if time.monotonic() - at > _STALLED_SECONDS]
        return f"the worker's loop {late[0]} does not turn" if late else ""

    def _nudge(self) -> None:
        """Let every loop look at once: one of them has changed what another waits for."""
        for nudge in self._nudges.values():
            nudge.set()

    def _loop(self, name: str, turn: Callable[[], bool]) -> None:
        pause, nudged = self.settings.tick_seconds, self._nudges[name]
        while not self._stopping.is_set():
            nudged.wait(pause)
            nudged.clear()
            try:
                if turn():
                    self._nudge()
                pause = self.settings.tick_seconds
            except Exception as error:  # noqa: BLE001 - one bad turn must not end the loop; it is logged and counted
                LOOP_FAILURES.labels(name).inc()
                known = isinstance(error, WindlassError)
                facts = {"loop": name, "error": str(error)}
                _log.error("worker turn failed", extra=facts, exc_info=None if known else error)
                pause = min(5.0, pause * 2)
            self._turns[name] = time.monotonic()

    def _runs(self) -> bool:
        try:
            self.scheduling.watch()
        finally:  # a run in trouble keeps no queued job waiting
            admitted = self.scheduling.admit()
        return admitted

    def _bytes(self) -> bool:
        self.processing.watch_datasets()
        self.processing.watch_imports()
        return False

    def _endpoints(self) -> bool:
        self.rollouts.step()
        return False

    def _retention(self) -> bool:
        self.retention.step()
        return False

    def _hand_out(self) -> bool:
        """Give due intents to idle hands: one that takes long, as the start of Ray does, keeps no other waiting."""
        self._busy = [future for future in self._busy if not future.done()]
        for intent in self._claim(_PARALLEL_INTENTS - len(self._busy)):
            future = self._hands.submit(self._carry_out, intent)
            future.add_done_callback(lambda _: self._nudge())
            self._busy.append(future)
        return False

    def _claim(self, limit: int) -> list[Intent]:
        with self.backing.database.read() as work:
            if limit < 1 or not work.outbox.due():
                return []
        with self.backing.database.write() as work:
            return work.outbox.claim(limit, self.settings.lease)

    def _carry_out(self, intent: Intent) -> None:
        try:
            self._do(intent)
        except Exception as error:  # noqa: BLE001 - a poisoned intent must not stop the others; it is tried again later
            pause = _RETRY_SECONDS[min(intent.tries, len(_RETRY_SECONDS)) - 1]
            known = isinstance(error, WindlassError)
            facts = {"kind": intent.kind, "subject": intent.subject, "error": str(error)}
            _log.error("intent failed", extra=facts, exc_info=None if known else error)
            INTENTS.labels(intent.kind, "failed").inc()
            given_up = self._explain(intent, str(error))
            with self.backing.database.write() as work:
                if given_up:
                    work.outbox.done(intent)
                else:
                    work.outbox.retry(intent, timedelta(seconds=pause))
            return
        with self.backing.database.write() as work:
            work.outbox.done(intent)
        INTENTS.labels(intent.kind, "done").inc()

    def _explain(self, intent: Intent, problem: str) -> bool:
        """Say to whom it matters why an intent fails; tell whether it is given up."""
        match intent.kind:
            case "run.submit":
                given_up = intent.tries >= _START_TRIES
                self.scheduling.not_started(intent.subject, problem, give_up=given_up)
                return given_up
            case _:
                return False

    def _do(self, intent: Intent) -> None:
        match intent.kind:
            case "job.deploy":
                with suppress(InvalidError):  # the job's reason says it from now on
                    deploy_job(self.backing, intent.project, intent.subject)
            case "job.submit":
                self._queue(intent)
            case "run.submit":
                self._submit(intent.subject)
            case "dataset.process":
                self.processing.start_dataset(intent.subject)
            case "base-model.import":
                self.processing.start_import(intent.subject)
            case "upload.expire":
                self.processing.expire_upload(intent.project, intent.subject)
            case _:
                self.processing.purge(intent.kind, intent.project, intent.subject)

    def _queue(self, intent: Intent) -> None:
        with self.backing.database.write() as work:
            jobs = work.of(intent.project).jobs
            job = jobs.find(id=intent.subject)
            if job is not None and job.state is JobState.ACCEPTED:
                jobs.save(move(job, JobState.QUEUED, self.backing.clock.now()))

    def _submit(self, run_id: str) -> None:
        address = self.ray.ensure()
        with self.backing.database.read() as work:
            run = work.everywhere().runs.find(id=run_id)
            if run is None or run.state is not RunState.PENDING or run.stop is not None:
                return
            job = work.of(run.project).jobs.get(id=run.job)
            base = work.base_models.get(id=job.base_model)
            project = work.projects.get(id=run.project).name
        self.backend.submit(
            RunContext(
                api_url=self.api_url,
                run_token=self.gatekeeper.run_token(run.id),
                project=project,
                job=job.id,
                run=run.id,
                run_number=run.number,
                run_name=run.name,
                spec=job.spec,
                store_root=self.backing.store.local_path("projects").parent,
                dataset_prefix=version_prefix(run.project, job.dataset_version),
                dataset_version=job.dataset_ref,
                base_model_prefix=base.prefix,
                base_model=base.name,
                checkpoint_prefix=checkpoint_prefix(job),
                artifact_prefix=artifact_prefix(job),
                workspace=self.workspace(run.name),
                ray_address=address,
            )
        )
