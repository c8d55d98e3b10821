"""Runs a group of setups in the cluster, round by round, with a prediction before each round."""

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.cluster.api_objects import KUEUE, create, delete, object_path, patch
from tests.integration.cluster.prediction.agreement import SchedulingOutcome, Tally, predict
from tests.integration.cluster.prediction.forms import Form
from tests.integration.cluster.prediction.setups import ROUNDS, Setup, SetupGroup, Step
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi

from windlass.domain.quota import ResourceDemand, Snapshot
from windlass.kube.kueue.messages import parse_preemption
from windlass.kube.kueue.queues import ClusterQueue, LocalQueue
from windlass.kube.kueue.snapshot import KueueState, snapshot_from_cluster
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import namespace_of
from windlass.kube.resources import ProjectQuota
from windlass_operators.render import gpu_pool, namespace, queues

Json = dict[str, Any]
_STABLE_SECONDS = 1.2
"""A round ends after this time without a change. Longer than a second, so that the rounds' timestamps in whole seconds
differ: Kueue breaks ties between queues at random."""


@dataclass
class _Round:
    """One setup in one round, before its change is applied. The snapshot includes a changed quota."""

    setup: Setup
    snapshot: Snapshot
    submitted: ResourceDemand | None = None
    ended: str | None = None
    quota: tuple[str, ProjectQuota] | None = None

    @property
    def about(self) -> str:
        if self.quota is not None:
            return f"quota of {self.quota[0]} changes"
        return f"job {self.submitted.job} is submitted" if self.submitted else f"job {self.ended} ends"


class PredictionRun:
    """Runs one group in the cluster."""

    def __init__(self, api: ClusterApi, group: SetupGroup, form: Form) -> None:
        self._api, self._group, self._form = api, group, form
        self._state = KueueState(datetime.now(UTC), tuple(group.pools.values()))
        self._live: set[str] = set()
        self._evictions: dict[str, set[tuple[str, str]]] = {}  # by pool: job, uid of who took its place
        self._recorded: set[tuple[str, datetime | None]] = set()
        self._jobs_by_uid: dict[str, str] = {}

    def play(self, tally: Tally) -> None:
        """Create the queues, run all rounds, and delete everything."""
        self._create()
        try:
            for number in range(ROUNDS):
                self._round(number, tally)
        finally:
            self._delete_all()

    def _create(self) -> None:
        pools = self._group.pools
        for pool in pools.values():
            for one in gpu_pool.objects(pool):
                create(self._api, one)
        for project in self._group.projects:
            space = namespace.namespace(project, pools)
            labels = space["metadata"]["labels"]
            # No Pod Security labels: the pods of the tests are minimal.
            space["metadata"]["labels"] = {key: labels[key] for key in labels if "pod-security" not in key}
            create(self._api, space, may_exist=True)
            for one in queues.objects(project, pools):
                create(self._api, one, may_exist=one["kind"] == "Cohort")
        self._read_queues()
        eventually(self._all_active, "every queue is active", 60)

    def _read_queues(self) -> None:
        self._state = replace(
            self._state,
            cluster_queues=ClusterQueue.parse_all(
                one
                for one in self._api.items(f"{KUEUE}/clusterqueues")
                if one["metadata"]["labels"].get("windlass.dev/pool") in self._group.pools
            ),
            local_queues=LocalQueue.parse_all(self._api.items(f"{KUEUE}/localqueues")),
        )

    def _all_active(self) -> bool:
        self._read_queues()
        found = self._state.cluster_queues
        return bool(found) and all(queue.active is not None and queue.active.true for queue in found)

    def _delete_all(self) -> None:
        spaces = [namespace_of(project.metadata.name) for project in self._group.projects]
        for space in spaces:
            self._form.delete_all(self._api, space)
        eventually(lambda: not self._read(), "every job is gone", 60)
        for space in spaces:
            delete(self._api, object_path("LocalQueue", space=space))
        for queue in self._state.cluster_queues:
            delete(self._api, object_path("ClusterQueue", queue.key))
        for pool in self._group.pools:
            delete(self._api, object_path("ResourceFlavor", pool))

    def _read(self) -> dict[str, Workload]:
        """Read the group's unfinished workloads by job, and act as their controller."""
        spaces = {namespace_of(project.metadata.name) for project in self._group.projects}
        objects = [one for one in self._api.items(f"{KUEUE}/workloads") if one["metadata"]["namespace"] in spaces]
        workloads = Workload.parse_all(objects)
        for raw, workload in zip(objects, workloads, strict=True):
            self._jobs_by_uid[workload.metadata.uid] = workload.job
            if workload.evicted:
                self._record_eviction(workload)
            ready = workload.condition("PodsReady")
            if workload.admitted and not workload.evicted and (ready is None or not ready.true):
                self._form.report_ready(self._api, raw)
            if workload.evicted and workload.quota_reserved:
                self._form.finish_eviction(self._api, raw)
        self._state = replace(self._state, workloads=workloads, now=datetime.now(UTC) + timedelta(seconds=1))
        return {workload.job: workload for workload in workloads if not workload.finished}

    def _record_eviction(self, workload: Workload) -> None:
        """Record each eviction and its preemptor once; the condition stays until the workload is admitted again.

        A Job's eviction can complete between two polls, so its quota reservation cannot be used.
        """
        why = workload.condition("Evicted")
        by = parse_preemption(why.message) if why is not None else None
        if why is None or by is None or (key := (workload.metadata.uid, why.last_transition_time)) in self._recorded:
            return
        self._recorded.add(key)
        self._evictions.setdefault(workload.spec.queue_name, set()).add((workload.job, by.uid))

    def _round(self, number: int, tally: Tally) -> None:
        self._read()
        full, self._evictions = snapshot_from_cluster(self._state), {}
        rounds = [self._plan(setup, setup.steps[number], full, number) for setup in self._group.setups]
        now = datetime.now(UTC)
        predicted = [predict(each.snapshot, each.submitted, each.ended, now) for each in rounds]
        for each in rounds:
            self._apply_change(each)
        workloads = self._wait_until_stable()
        self._read_queues()
        for each, expected in zip(rounds, predicted, strict=True):
            seen, evaluated = self._seen(each, workloads)
            tally.compare(str(each.setup), f"round {number + 1}, {each.about}", expected, seen, evaluated=evaluated)

    def _apply_change(self, each: _Round) -> None:
        if each.submitted is not None:
            self._form.submit(self._api, each.submitted)
            self._live.add(each.submitted.job)
        elif each.ended is not None:
            self._form.end(self._api, each.ended)
            self._live.discard(each.ended)
        elif each.quota is not None:
            name, quota = each.quota
            project = next(one for one in self._group.projects if one.metadata.name == name)
            wanted = queues.cluster_queue(project, quota, self._group.pools[quota.pool])
            patch(self._api, object_path("ClusterQueue", wanted["metadata"]["name"]), {"spec": wanted["spec"]})

    def _plan(self, setup: Setup, step: Step, full: Snapshot, number: int) -> _Round:
        """Return a round. Without a job to end, one is submitted."""
        quotas = [each for each in full.quotas if each.pool == setup.pool]
        if step.quota is not None:
            terms = step.quota.model_dump(exclude={"pool"})
            quotas = [each.model_copy(update=terms) if each.project == step.project else each for each in quotas]
        pool_snapshot = Snapshot(
            pools=tuple(each for each in full.pools if each.name == setup.pool),
            quotas=tuple(quotas),
            cohorts=full.cohorts,
            demands=tuple(each for each in full.demands if each.pool == setup.pool),
        )
        if step.quota is not None:
            return _Round(setup, pool_snapshot, quota=(step.project, step.quota))
        jobs = sorted(demand.job for demand in pool_snapshot.demands)
        if not step.gpus and jobs:
            return _Round(setup, pool_snapshot, ended=jobs[step.chosen % len(jobs)])
        submitted = ResourceDemand(
            job=f"{namespace_of(step.project)}/{setup.pool}-j{number}",
            project=step.project,
            pool=setup.pool,
            gpus=step.gpus or 1,
            priority=step.priority,
            queued_at=datetime.now(UTC),
        )
        return _Round(setup, pool_snapshot, submitted=submitted)

    def _wait_until_stable(self) -> dict[str, Workload]:
        before, since, until = "", time.monotonic(), time.monotonic() + 60
        while True:
            workloads = self._read()
            now = json.dumps([_fingerprint(one) for one in workloads.values()])
            leaving = any(one.evicted and one.quota_reserved for one in workloads.values())
            if now != before or leaving or workloads.keys() != self._live:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > _STABLE_SECONDS:
                return workloads
            assert time.monotonic() < until, f"the cluster is not stable: {now}"
            time.sleep(0.25)

    def _seen(self, each: _Round, workloads: dict[str, Workload]) -> tuple[SchedulingOutcome, bool]:
        taken = self._evictions.get(each.setup.pool, set())
        preempted = frozenset((job, self._jobs_by_uid.get(by, by)) for job, by in taken)
        pool_snapshot = {job: one for job, one in workloads.items() if one.spec.queue_name == each.setup.pool}
        running = frozenset(job for job, one in pool_snapshot.items() if one.quota_reserved)
        if each.submitted is None:
            return SchedulingOutcome("", running, preempted), True
        condition = pool_snapshot[each.submitted.job].condition("QuotaReserved")
        if any(by == each.submitted.job for _, by in preempted):
            verdict = "preempts"
        elif each.submitted.job in running:
            verdict = "starts"
        else:
            verdict = "never" if condition is not None and "maximum capacity" in condition.message else "waits"
        return SchedulingOutcome(verdict, running, preempted), condition is not None


def _fingerprint(workload: Workload) -> list[object]:
    condition = workload.condition("QuotaReserved")
    return [workload.key, workload.quota_reserved, workload.evicted, condition.message if condition else None]
