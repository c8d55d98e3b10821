"""Plays a group of set-ups in the cluster, round by round, and asks Windlass before each what Kueue will do."""

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.bed.cluster_api import ClusterApi
from tests.integration.cluster.prediction.agreement import Outcome, Tally, foresee
from tests.integration.cluster.prediction.forms import Form
from tests.integration.cluster.prediction.setups import ROUNDS, Group, Setup, Step
from tests.integration.cluster.waiting import eventually
from tests.integration.cluster.writing import KUEUE, create, delete, patch, path_of

from windlass.domain.quota import Claim, Snapshot
from windlass.kube.kueue.messages import read_preemption
from windlass.kube.kueue.queues import ClusterQueue, LocalQueue
from windlass.kube.kueue.snapshot import ClusterState, take_snapshot
from windlass.kube.kueue.workload import Workload
from windlass.kube.names import namespace_of
from windlass.kube.resources import ProjectQuota
from windlass_operators.render import gpu_pool, namespace, queues

Json = dict[str, Any]
_STILL = 1.2
"""Seconds without a change after which a round counts as over. Also keeps the rounds' times apart: they are written in
whole seconds, and between queues Kueue leaves ties to chance."""


@dataclass
class _Round:
    """One set-up in one round, before it was played. The snapshot has a changed quota already."""

    setup: Setup
    snapshot: Snapshot
    came: Claim | None = None
    ended: str | None = None
    quota: tuple[str, ProjectQuota] | None = None

    @property
    def about(self) -> str:
        if self.quota is not None:
            return f"quota of {self.quota[0]} changes"
        return f"job {self.came.job} comes" if self.came else f"job {self.ended} goes"


class Rehearsal:
    """One group in the cluster."""

    def __init__(self, api: ClusterApi, group: Group, form: Form) -> None:
        self._api, self._group, self._form = api, group, form
        self._state = ClusterState(datetime.now(UTC), tuple(group.pools.values()))
        self._live: set[str] = set()
        self._evictions: dict[str, set[tuple[str, str]]] = {}  # by pool: job, uid of who took its place
        self._noted: set[tuple[str, datetime | None]] = set()
        self._jobs_by_uid: dict[str, str] = {}

    def play(self, tally: Tally) -> None:
        """Make the queues, play all rounds, and take everything away again."""
        self._make()
        try:
            for number in range(ROUNDS):
                self._round(number, tally)
        finally:
            self._take_away()

    def _make(self) -> None:
        pools = self._group.pools
        for pool in pools.values():
            for one in gpu_pool.objects(pool):
                create(self._api, one)
        for project in self._group.projects:
            space = namespace.namespace(project, pools)
            labels = space["metadata"]["labels"]
            # Pods of the tests' Jobs are as plain as can be.
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

    def _take_away(self) -> None:
        spaces = [namespace_of(project.metadata.name) for project in self._group.projects]
        for space in spaces:
            self._form.delete_all(self._api, space)
        eventually(lambda: not self._read(), "every job is gone", 60)
        for space in spaces:
            delete(self._api, path_of("LocalQueue", space=space))
        for queue in self._state.cluster_queues:
            delete(self._api, path_of("ClusterQueue", queue.key))
        for pool in self._group.pools:
            delete(self._api, path_of("ResourceFlavor", pool))

    def _read(self) -> dict[str, Workload]:
        """Read the group's workloads, by job, and finish what Kueue has begun to evict."""
        spaces = {namespace_of(project.metadata.name) for project in self._group.projects}
        told = [one for one in self._api.items(f"{KUEUE}/workloads") if one["metadata"]["namespace"] in spaces]
        found = Workload.parse_all(told)
        for raw, workload in zip(told, found, strict=True):
            self._jobs_by_uid[workload.metadata.uid] = workload.job
            if workload.evicted:
                self._note_eviction(workload)
            if workload.evicted and workload.reserves:
                self._form.finish_eviction(self._api, raw)
        self._state = replace(self._state, workloads=found, now=datetime.now(UTC) + timedelta(seconds=1))
        return {workload.job: workload for workload in found if not workload.finished}

    def _note_eviction(self, workload: Workload) -> None:
        """Note who was stopped for whom, once: the condition stays until the workload is admitted again.

        A Job's eviction can be over between two looks, so that the quota it still holds is no sign.
        """
        why = workload.condition("Evicted")
        by = read_preemption(why.message) if why is not None else None
        if why is None or by is None or (key := (workload.metadata.uid, why.last_transition_time)) in self._noted:
            return
        self._noted.add(key)
        self._evictions.setdefault(workload.spec.queue_name, set()).add((workload.job, by.uid))

    def _round(self, number: int, tally: Tally) -> None:
        self._read()
        whole, self._evictions = take_snapshot(self._state), {}
        rounds = [self._plan(setup, setup.steps[number], whole, number) for setup in self._group.setups]
        now = datetime.now(UTC)
        foreseen = [foresee(each.snapshot, each.came, each.ended, now) for each in rounds]
        for each in rounds:
            self._do(each)
        workloads = self._until_still()
        self._read_queues()
        for each, expected in zip(rounds, foreseen, strict=True):
            seen, looked_at = self._seen(each, workloads)
            tally.compare(str(each.setup), f"round {number + 1}, {each.about}", expected, seen, looked_at=looked_at)

    def _do(self, each: _Round) -> None:
        if each.came is not None:
            self._form.submit(self._api, each.came)
            self._live.add(each.came.job)
        elif each.ended is not None:
            self._form.end(self._api, each.ended)
            self._live.discard(each.ended)
        elif each.quota is not None:
            name, quota = each.quota
            project = next(one for one in self._group.projects if one.metadata.name == name)
            wanted = queues.cluster_queue(project, quota, self._group.pools[quota.pool])
            patch(self._api, path_of("ClusterQueue", wanted["metadata"]["name"]), {"spec": wanted["spec"]})

    def _plan(self, setup: Setup, step: Step, whole: Snapshot, number: int) -> _Round:
        """Return a round. Where there is no job that could go, one comes."""
        quotas = [each for each in whole.quotas if each.pool == setup.pool]
        if step.quota is not None:
            terms = step.quota.model_dump(exclude={"pool"})
            quotas = [each.model_copy(update=terms) if each.project == step.project else each for each in quotas]
        inside = Snapshot(
            pools=tuple(each for each in whole.pools if each.name == setup.pool),
            quotas=tuple(quotas),
            cohorts=whole.cohorts,
            claims=tuple(each for each in whole.claims if each.pool == setup.pool),
        )
        if step.quota is not None:
            return _Round(setup, inside, quota=(step.project, step.quota))
        jobs = sorted(claim.job for claim in inside.claims)
        if not step.gpus and jobs:
            return _Round(setup, inside, ended=jobs[step.chosen % len(jobs)])
        came = Claim(
            job=f"{namespace_of(step.project)}/{setup.pool}-j{number}",
            project=step.project,
            pool=setup.pool,
            gpus=step.gpus or 1,
            priority=step.priority,
            queued_at=datetime.now(UTC),
        )
        return _Round(setup, inside, came=came)

    def _until_still(self) -> dict[str, Workload]:
        before, since, until = "", time.monotonic(), time.monotonic() + 60
        while True:
            workloads = self._read()
            now = json.dumps([_sign(one) for one in workloads.values()])
            leaving = any(one.evicted and one.reserves for one in workloads.values())
            if now != before or leaving or workloads.keys() != self._live:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > _STILL:
                return workloads
            assert time.monotonic() < until, f"the cluster does not come to rest: {now}"
            time.sleep(0.25)

    def _seen(self, each: _Round, workloads: dict[str, Workload]) -> tuple[Outcome, bool]:
        taken = self._evictions.get(each.setup.pool, set())
        preempted = frozenset((job, self._jobs_by_uid.get(by, by)) for job, by in taken)
        inside = {job: one for job, one in workloads.items() if one.spec.queue_name == each.setup.pool}
        running = frozenset(job for job, one in inside.items() if one.reserves)
        if each.came is None:
            return Outcome("", running, preempted), True
        told = inside[each.came.job].condition("QuotaReserved")
        if any(by == each.came.job for _, by in preempted):
            verdict = "preempts"
        elif each.came.job in running:
            verdict = "starts"
        else:
            verdict = "never" if told is not None and "maximum capacity" in told.message else "waits"
        return Outcome(verdict, running, preempted), told is not None


def _sign(workload: Workload) -> list[object]:
    told = workload.condition("QuotaReserved")
    return [workload.key, workload.reserves, workload.evicted, told.message if told else None]
