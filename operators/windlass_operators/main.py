"""Composition root of the operators: settings, client, lease, kopf."""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from datetime import UTC, datetime

import kopf
from pydantic import ValidationError

from windlass.kube.client import Client, load_configuration
from windlass.kube.errors import ClusterError
from windlass.kube.objects import Ref
from windlass.kube.store import Store
from windlass.settings import OperatorSettings
from windlass.telemetry import set_up_logging
from windlass_operators import metrics, serve_health
from windlass_operators.handlers import Reconciler
from windlass_operators.lease import LEASE, ROUNDS, Lease
from windlass_operators.operator import Operator
from windlass_operators.render.model_endpoint import Serving
from windlass_operators.slimming import slim
from windlass_operators.strain import Strain
from windlass_operators.world import World

EXIT_CRASH, EXIT_SETTINGS, EXIT_CLUSTER, EXIT_PORT, EXIT_LEASE = 1, 2, 3, 7, 8
_LEASE_NAME = "windlass-operators"
_log = logging.getLogger(__name__)


def main() -> int:
    """Run until told to stop, or until another replica may be active."""
    set_up_logging()
    logging.getLogger("windlass_operators").setLevel(logging.INFO)
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        for one in error.errors():
            _say(f"WINDLASS_OPERATORS_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}")
        return EXIT_SETTINGS
    try:
        configuration = load_configuration()
    except ClusterError as error:
        _say(error.message)
        return EXIT_CLUSTER
    pulse = serve_health.Pulse()
    try:
        server = serve_health.start(settings.host, settings.port, pulse)
    except OSError as error:
        _say(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; set WINDLASS_OPERATORS_PORT")
        return EXIT_PORT
    _log.info("listening", extra={"host": settings.host, "port": server.server_address[1]})
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    ref = Ref(LEASE, _LEASE_NAME, settings.namespace)
    # an answer that comes later than the next renewal is due helps nobody
    lease_client = Client(configuration, observe=_count, patience=settings.lease_seconds / ROUNDS)
    lease = Lease(lease_client, ref, identity, settings.lease_seconds)
    strain = Strain()

    def observe(method: str, status: int) -> None:
        _count(method, status)
        strain.answered(status)

    client = Client(configuration, guard=lease.check, observe=observe)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if not lease.acquire(stopping):
        return 0
    metrics.LEASE_HELD.set(1)
    _log.info("active", extra={"identity": identity})
    threading.Thread(target=lease.keep, args=(stopping, _give_up), name="lease", daemon=True).start()
    try:
        failure = asyncio.run(_operate(client, settings, pulse, strain, stopping))
    finally:
        stopping.set()
        pulse.stop()
        metrics.LEASE_HELD.set(0)
        _release(lease)
    return EXIT_CRASH if failure else 0


async def _operate(
    client: Client, settings: OperatorSettings, pulse: serve_health.Pulse, strain: Strain, stopping: threading.Event
) -> BaseException | None:
    stop = asyncio.Event()  # kopf takes the signals from here on
    if stopping.is_set():
        return None
    world = World(Store(slim))
    serving = Serving(settings.image, settings.ray_version)
    reconciler = Reconciler(client, world, _now, settings.namespace, serving)
    operator = Operator(
        client,
        world,
        reconciler,
        resync_seconds=settings.resync_seconds,
        workers=settings.workers,
        beat=pulse.beat,
        stop=stop,
        strain=strain,
    )
    await kopf.operator(registry=operator.registry(), clusterwide=True, standalone=True, stop_flag=stop)
    return operator.failure


def _now() -> datetime:
    # Kubernetes' metav1.Time has whole seconds: what is written is what will be read
    return datetime.now(UTC).replace(microsecond=0)


def _count(method: str, status: int) -> None:
    metrics.REQUESTS.labels(method, str(status)).inc()


def _give_up() -> None:
    """End at once: whatever runs in other threads must not write any more, and what is half done another one ends."""
    _log.critical("the lease is lost")
    logging.shutdown()
    os._exit(EXIT_LEASE)


def _release(lease: Lease) -> None:
    try:
        lease.release()
    except ClusterError as error:
        _log.warning("the lease was not released; it runs out by itself", extra={"error": error.message})


def _say(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)  # noqa: T201 - read by whoever starts it
