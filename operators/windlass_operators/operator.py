"""kopf's part and the loop: watches feed the store and wake the queue, the queue reconciles.

kopf keeps the watches: it begins them again when they break, and when a kind is installed later. Its own handlers of
creations and updates are not used: they keep what they last saw in annotations of the object, and a reconciliation by
level has nothing to remember.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import kopf

from windlass.kube.client import Client
from windlass.kube.errors import ClusterError, UnavailableError, UnknownKindError
from windlass.kube.names import MANAGED_BY, OWNER
from windlass.kube.objects import Kind, Listing, Object, Ref
from windlass.kube.store import same
from windlass_operators import metrics
from windlass_operators.handlers import Reconciler
from windlass_operators.kinds import CHILDREN, COHORT, MODELS, WATCHED
from windlass_operators.queue import Key, Queue
from windlass_operators.slimming import slim
from windlass_operators.strain import Backoffs, Strain
from windlass_operators.world import World

_MINE = f"{MANAGED_BY}={OWNER}"
_FIRST_LOOK_PAUSE = 2.0
_SPACING = 0.2
"""Changes come in swarms: the first has a turn at once, and one more turn is enough for those that follow it."""
_log = logging.getLogger(__name__)


class Operator:
    """Wires watches, store, queue and reconciliations of one active replica."""

    def __init__(
        self,
        client: Client,
        world: World,
        reconciler: Reconciler,
        *,
        resync_seconds: float,
        workers: int,
        beat: Callable[[], None],
        stop: asyncio.Event,
        strain: Strain | None = None,
    ) -> None:
        self.failure: BaseException | None = None
        """What ended a loop of ours that should have gone on."""
        self._stop_flag = stop
        self._client, self._world, self._reconciler = client, world, reconciler
        self._resync_seconds = resync_seconds
        self._strain = strain or Strain()
        self._queue = Queue(self._work, self._failed, workers, beat, spacing=_SPACING)
        self._tasks: list[asyncio.Task[None]] = []
        self._told: dict[Ref, Object] = {}

    def registry(self) -> kopf.OperatorRegistry:
        """Return kopf's handlers."""
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(self._start)
        kopf.on.cleanup(registry=registry)(self._stop)
        kopf.on.login(registry=registry)(kopf.login_via_client)
        for kind in WATCHED:
            group, _, version = kind.api_version.rpartition("/")
            watch = kopf.on.event(group=group, version=version, kind=kind.kind, id=str(kind), registry=registry)
            watch(self._changed)
        return registry

    async def _start(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        """Know all that there is before anything is decided, and then begin."""
        settings.posting.enabled = False
        settings.networking.error_backoffs = Backoffs()  # kopf's own end after a minute, and the process with them
        for kind in CHILDREN:
            settings.watching.label_selectors[_selector(kind)] = _MINE
        await self._first_look()
        self._tasks = [asyncio.create_task(self._queue.run()), asyncio.create_task(self._resync())]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def _stop(self, **_: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _changed(self, event: kopf.RawEvent, **_: Any) -> None:
        """Take over what a watch says, and wake whom it concerns; this runs on kopf's loop and must be quick."""
        subject: Object = dict(event["object"])
        gone = event["type"] == "DELETED"
        before = self._before(subject, gone=gone)
        if gone:
            self._world.store.remove(subject)
        else:
            self._world.store.put(subject)
            if before is not None and same(before, slim(subject)):
                return
        for key in self._world.concerned(subject, None if gone else before):
            self._queue.wake(key)

    def _before(self, subject: Object, *, gone: bool) -> Object | None:
        """What is compared with to tell whom a change concerns.

        Of our own resources it is what a watch told last: an answer to a write of ours may hold a new wish already, of
        which nobody else has been told.
        """
        ref = Ref.of(subject)
        if ref.kind not in MODELS:
            return self._world.store.get(ref)
        before = self._told.pop(ref, None)
        if not gone:
            self._told[ref] = slim(subject)
        return before

    async def _first_look(self) -> None:
        """Wait for an API server that answers: it may be starting as we are."""
        while not self._stop_flag.is_set():
            try:
                await self._look_at_everything()  # what it finds no watch could have told
            except ClusterError as error:
                _log.warning("could not look at everything", extra={"error": error.message})
                await asyncio.sleep(error.retry_after or _FIRST_LOOK_PAUSE)
            else:
                return

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._resync_seconds)
            try:
                metrics.MISSED.inc(await self._look_at_everything())
            except ClusterError as error:
                _log.warning("could not look at everything", extra={"error": error.message})

    async def _look_at_everything(self) -> int:
        """List every kind, whatever the watches said, let each resource have a turn; return how much was news.

        Raises:
            ClusterError: a kind could not be listed; all others were.
        """
        missed, failed = 0, list[ClusterError]()
        for kind in WATCHED:
            try:
                listing = await asyncio.to_thread(self._list, kind)
            except ClusterError as error:
                failed.append(error)
                continue
            missed += len(self._world.store.replace(kind, listing))
        for kind in (*MODELS, COHORT):
            for one in self._world.store.all(kind):
                self._queue.add(Key(kind, one["metadata"]["name"], one["metadata"].get("namespace")))
        if failed:
            raise failed[0]
        return missed

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that ends by itself would leave an operator that watches and does nothing: say so and stop."""
        if not task.cancelled() and (error := task.exception()):
            _log.critical("a loop has crashed", exc_info=error)
            self.failure = error
            self._stop_flag.set()

    def _list(self, kind: Kind) -> Listing:
        try:
            return self._client.list(kind, labels=_MINE if kind in CHILDREN else "")
        except UnknownKindError:
            return Listing([], "")

    async def _work(self, key: Key) -> float | None:
        began = time.perf_counter()
        try:
            again = await asyncio.to_thread(partial(self._reconciler.reconcile, key))
        finally:
            metrics.SECONDS.labels(key.kind.kind).observe(time.perf_counter() - began)
        metrics.RECONCILIATIONS.labels(key.kind.kind, "ok").inc()
        return again

    def _failed(self, key: Key, error: Exception) -> float | None:
        expected = isinstance(error, ClusterError)
        metrics.RECONCILIATIONS.labels(key.kind.kind, "failed" if expected else "crashed").inc()
        told = {"kind": key.kind.kind, "object": key.name, "error": str(error)}
        if expected:
            _log.warning("a reconciliation failed and is tried again", extra=told)
        else:
            _log.error("a reconciliation crashed and is tried again", exc_info=error, extra=told)
        if not isinstance(error, UnavailableError):
            return None
        self._queue.hold(self._strain.pause(key, error.retry_after))
        return error.retry_after


def _selector(kind: Kind) -> Callable[[kopf.Resource], bool]:
    """Return a selector by kind: kopf's own one of three words takes plurals and short names too."""
    group, _, version = kind.api_version.rpartition("/")

    def selects(resource: kopf.Resource) -> bool:
        return (resource.group, resource.version, resource.kind) == (group, version, kind.kind)

    return selects
