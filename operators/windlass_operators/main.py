"""Composition root of the operators: settings, clients, lease, cache, work queue."""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from pydantic import ValidationError

from windlass.kit.backoff import Backoff
from windlass.kit.circuit_breaker import CircuitBreaker
from windlass.kube.cache.store import Store
from windlass.kube.cache.transform import transform_for_operators
from windlass.kube.client import KubeClient, load_configuration
from windlass.kube.errors import KubeApiError
from windlass.kube.leader_election import LEASE, RENEWALS_PER_LEASE, LeaderLease
from windlass.kube.objects import Ref
from windlass.settings import OperatorSettings
from windlass.telemetry import set_up_logging
from windlass_operators import health_server, metrics
from windlass_operators.cluster_cache import ClusterCache
from windlass_operators.handlers import Reconciler
from windlass_operators.operator import Operator
from windlass_operators.render.network import PlatformNetwork

EXIT_CRASH, EXIT_SETTINGS, EXIT_CLUSTER, EXIT_PORT, EXIT_LEASE = 1, 2, 3, 7, 8
_OUTAGE_BACKOFF = Backoff(first=0.5, maximum=10.0)
_LEASE_NAME = "windlass-operators"
_log = logging.getLogger(__name__)


def main() -> int:
    """Run until stopped, or until another replica may be the leader."""
    set_up_logging()
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        for item in error.errors():
            _print_error(f"WINDLASS_OPERATORS_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}")
        return EXIT_SETTINGS
    try:
        configuration = load_configuration()
    except KubeApiError as error:
        _print_error(error.message)
        return EXIT_CLUSTER
    connect = partial(KubeClient, configuration)
    liveness = health_server.LivenessTracker()
    try:
        server = health_server.start(settings.host, settings.port, liveness)
    except OSError as error:
        _print_error(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; set WINDLASS_OPERATORS_PORT")
        return EXIT_PORT
    _log.info("listening", extra={"host": settings.host, "port": server.server_address[1]})
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    ref = Ref(LEASE, _LEASE_NAME, settings.namespace)
    # a response after the next renewal is due is useless
    lease_client = connect(observe=_count, timeout=settings.leader_lease_seconds / RENEWALS_PER_LEASE)
    lease = LeaderLease(lease_client, ref, identity, settings.leader_lease_seconds)
    operator = _operator(connect, lease, settings, liveness)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if not lease.acquire(stopping):
        return 0
    metrics.IS_LEADER.set(1)
    _log.info("active", extra={"identity": identity})
    threading.Thread(target=lease.renew, args=(stopping, _exit_on_lost_lease), name="lease", daemon=True).start()
    try:
        operator.run(stopping)
    except RuntimeError as error:
        _log.critical("the operators crashed", exc_info=error)
        return EXIT_CRASH
    finally:
        stopping.set()
        liveness.stop()
        metrics.IS_LEADER.set(0)
        _release(lease)
    return 0


def _operator(
    connect: Callable[..., KubeClient],
    lease: LeaderLease,
    settings: OperatorSettings,
    liveness: health_server.LivenessTracker,
) -> Operator:
    circuit_breaker = CircuitBreaker(_OUTAGE_BACKOFF)

    def observe(method: str, status: int) -> None:
        _count(method, status)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS:
            circuit_breaker.record_success()

    client = connect(guard=lease.ensure_leader, observe=observe)
    cache = ClusterCache(Store(transform_for_operators), _now)
    network = PlatformNetwork(
        settings.namespace,
        settings.kuberay_namespace,
        settings.object_store_peers,
        settings.object_store_port,
        settings.runner_namespace,
    )
    return Operator(
        connect(observe=_count),
        cache,
        Reconciler(client, cache, _now, network),
        resync_seconds=settings.resync_seconds,
        usage_seconds=settings.usage_seconds,
        workers=settings.workers,
        heartbeat=liveness.touch,
        circuit_breaker=circuit_breaker,
    )


def _now() -> datetime:
    # metav1.Time has whole seconds: the written value equals the value read back
    return datetime.now(UTC).replace(microsecond=0)


def _count(method: str, status: int) -> None:
    metrics.REQUESTS.labels(method, str(status)).inc()


def _exit_on_lost_lease() -> None:
    """Exit at once: other threads must not write any more. The next leader completes unfinished work."""
    _log.critical("the lease is lost")
    logging.shutdown()
    os._exit(EXIT_LEASE)


def _release(lease: LeaderLease) -> None:
    try:
        lease.release()
    except KubeApiError as error:
        _log.warning("the lease was not released; it expires by itself", extra={"error": error.message})


def _print_error(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)  # noqa: T201 - shown to the user
