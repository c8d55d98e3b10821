"""Random faults of the processes of a control plane, of their pods and of the connections between them.

The seed gives the sequence of faults; when each one meets which request depends on the machine.
"""

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import make_url
from tests.factories.replicas import ControlPlaneReplica, ControlPlaneReplicas
from tests.factories.tcp_proxy import TcpProxy

_MEAN_SECONDS = 5.0
"""Mean time between faults."""
_MAX_STOP = 9.0
"""Longest time for which a process is stopped: longer than a lease, so that another worker takes over."""
_MAX_STALL = 4.0


@dataclass
class History:
    """What happened, one JSON object a line, for a run that fails."""

    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _begin: float = field(default_factory=time.monotonic)

    def add(self, kind: str, **fields: Any) -> None:
        """Append an entry with the seconds since the beginning."""
        line = json.dumps({"seconds": round(time.monotonic() - self._begin, 3), "kind": kind, **fields})
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            self.counts[kind] += 1
            file.write(line + "\n")


@dataclass
class RandomFaults:
    """Injects faults until it is stopped; then everything runs again."""

    replicas: ControlPlaneReplicas
    proxies: dict[str, TcpProxy]
    history: History
    choice: random.Random
    _stopping: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; raise what went wrong here."""
        self._stopping.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        faults: list[tuple[int, Callable[[], None]]] = [
            (5, self._kill),
            (3, self._stop),
            (2, self._cut),
            (2, self._stall),
        ]
        weights, actions = [weight for weight, _ in faults], [action for _, action in faults]
        try:
            while not self._stopping.wait(self.choice.expovariate(1 / _MEAN_SECONDS)):
                self.choice.choices(actions, weights)[0]()
        except Exception as error:  # noqa: BLE001 - stop() raises it
            self.error = error

    def _any_replica(self) -> ControlPlaneReplica:
        return self.choice.choice([replica for replica in self.replicas.all if replica.alive])

    def _kill(self) -> None:
        replica = self._any_replica()
        self.history.add("kill", replica=replica.log.name)
        replica.kill()
        self._stopping.wait(self.choice.uniform(0, 2))
        started = self.replicas.start(replica.role)
        self.history.add("start", replica=started.log.name)

    def _stop(self) -> None:
        replica = self._any_replica()
        seconds = self.choice.uniform(0.5, _MAX_STOP)
        self.history.add("stop", replica=replica.log.name, lasts=round(seconds, 3))
        replica.process.send_signal(signal.SIGSTOP)
        self._stopping.wait(seconds)
        replica.process.send_signal(signal.SIGCONT)

    def _cut(self) -> None:
        name = self.choice.choice(sorted(self.proxies))
        self.history.add("cut", server=name)
        self.proxies[name].cut()

    def _stall(self) -> None:
        name, seconds = self.choice.choice(sorted(self.proxies)), self.choice.uniform(0.2, _MAX_STALL)
        self.history.add("stall", server=name, lasts=round(seconds, 3))
        self.proxies[name].stall()
        self._stopping.wait(seconds)
        self.proxies[name].resume()


@contextmanager
def proxied(replicas: ControlPlaneReplicas) -> Iterator[dict[str, TcpProxy]]:
    """Put a proxy in front of each server that the processes use; the next ones that start connect to it."""
    environment = replicas.environment
    url = make_url(environment["WINDLASS_DATABASE_URL"])
    database = TcpProxy.to_socket(f"{url.query['host']}/.s.PGSQL.5432")
    store = TcpProxy.to_port(urlsplit(environment["WINDLASS_S3_ENDPOINT"]).port or 0)
    kube = TcpProxy.to_port(urlsplit(replicas.kube.url).port or 0)
    proxies = {"database": database, "object store": store, "Kubernetes API": kube}
    for name in ("WINDLASS_DATABASE_URL", "WINDLASS_DATABASE_API_URL"):
        local = make_url(environment[name]).set(host="127.0.0.1", port=database.port, query={})
        environment[name] = local.render_as_string(hide_password=False)
    environment["WINDLASS_S3_ENDPOINT"] = f"http://127.0.0.1:{store.port}"
    file = Path(environment["WINDLASS_CLUSTER_KUBECONFIG"])
    file.write_text(file.read_text().replace(replicas.kube.url, f"http://127.0.0.1:{kube.port}"))
    try:
        yield proxies
    finally:
        for proxy in proxies.values():
            proxy.resume()
        replicas.close()
        for proxy in proxies.values():
            proxy.close()
