"""Observes a job while it runs: its events in the API, and its objects in the cluster."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from tests.cluster_demo.installation import SYSTEM_NAMESPACE
from tests.cluster_demo.waterfall import EVENTS, Stage, Waterfall
from tests.testcluster.cluster_api import ClusterApi, condition
from tests.testcluster.layout import LocalCluster

from windlass.domain.endpoints import EndpointState
from windlass.domain.errors import NotFoundError, UnavailableError, WindlassError
from windlass.sdk import Client

POLL_SECONDS = 0.5
_POINTS = 10
_TEXT = "Best purchase this year!"


class Recorder(threading.Thread):
    """Records the stages of the first job that is created after the start, and of its endpoint, until it is stopped.

    Objects of the cluster are polled, since their own times have whole seconds and end with them.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        client: Client,
        endpoint: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(name="recorder", daemon=True)
        self.waterfall = Waterfall()
        self.error: Exception | None = None
        self._cluster, self._client, self._endpoint, self._now = cluster, client, endpoint, now
        self._stopped = threading.Event()
        self._earlier = {job.id for job in client.jobs.list().items}

    def run(self) -> None:
        """Poll until stopped."""
        with ClusterApi(self._cluster) as api:
            while not self._stopped.wait(POLL_SECONDS):
                try:
                    self._poll(api)
                except UnavailableError:
                    continue
                except WindlassError as error:
                    self.error = error
                    return

    def stop(self) -> None:
        """Stop, and wait for the last poll."""
        self._stopped.set()
        self.join()

    def _poll(self, api: ClusterApi) -> None:
        created = [job for job in self._client.jobs.list().items if job.id not in self._earlier]
        if not created:
            return
        job = self._client.jobs.get(created[-1].id)
        if job.runs:
            self.waterfall.record(Stage.RUN_CREATED, job.runs[0].created_at)
            self._poll_objects(api, job.runs[0].name)
        for event in self._client.jobs.events(job.id):
            if event.code in EVENTS:
                self.waterfall.record(EVENTS[event.code], event.time)
        if self.waterfall.has(Stage.TRAINING_STARTED) and not self.waterfall.has(Stage.FIRST_STEP):
            series = self._client.jobs.metrics(job.id, points=_POINTS).series
            if any(step > 0 for each in series for step in each.steps):
                self._record(Stage.FIRST_STEP)
        if self.waterfall.has(Stage.REGISTERED):
            self._poll_endpoint()

    def _poll_objects(self, api: ClusterApi, run: str) -> None:
        namespace = f"wl-{self._client.connection.project}"
        if not self.waterfall.has(Stage.RUNNER_RUNNING):
            pods = api.items(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods?labelSelector=job-name%3D{run}")
            if any(pod["status"].get("phase") == "Running" for pod in pods):
                self._record(Stage.RUNNER_RUNNING)
        if not self.waterfall.has(Stage.ADMITTED):
            ray_job = api.read(f"/apis/ray.io/v1/namespaces/{namespace}/rayjobs/{run}")
            if ray_job is not None:
                self._record(Stage.RAY_JOB_CREATED)
                if not ray_job["spec"].get("suspend"):  # Kueue sets it when the RayJob is created
                    self._record(Stage.ADMITTED)
        elif not self.waterfall.has(Stage.HEAD_READY):
            heads = api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector=ray.io%2Fnode-type%3Dhead")
            if any(condition(pod, "Ready") for pod in heads):
                self._record(Stage.HEAD_READY)

    def _poll_endpoint(self) -> None:
        if self.waterfall.has(Stage.PREDICTED):
            return
        try:
            if self._client.endpoints.get(self._endpoint).state is not EndpointState.READY:
                return
        except NotFoundError:
            return
        self._record(Stage.ENDPOINT_READY)
        self._client.endpoints.predict(self._endpoint, [_TEXT])
        self._record(Stage.PREDICTED)

    def _record(self, stage: Stage) -> None:
        self.waterfall.record(stage, self._now())
