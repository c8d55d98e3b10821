"""Connects a loopback port of the host to a Service of the cluster, also while the pods behind it are replaced."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator

from tests.testcluster import processes, relay
from tests.testcluster.cluster_api import ClusterApi
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import STATE_MOUNT, LocalCluster


class ServiceRelay:
    """A relay from a port of the host to a port of a Service."""

    def __init__(self, cluster: LocalCluster, namespace: str, name: str, port: int) -> None:
        self._cluster, self._namespace, self._name, self._port = cluster, namespace, name, port
        self._socket = f"{name}-{port}.sock"
        self._inside: subprocess.Popen[bytes] | None = None
        self.address = ""
        """``127.0.0.1:PORT`` while the relay runs."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Relay until the block is left. Raises as ``connect``."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
            outer = [*relay.COMMAND, f"fd:{listener.fileno()}", f"unix:{self._socket}"]
            try:
                self.connect()
                with subprocess.Popen(outer, cwd=self._cluster.run_dir, pass_fds=[listener.fileno()]) as outside:
                    try:
                        yield
                    finally:
                        outside.kill()
            finally:
                self._disconnect()

    def connect(self) -> None:
        """Connect to the Service, again if it was deleted and created: its address is another one then.

        Raises:
            LocalClusterError: there is no such Service.
        """
        self._disconnect()
        with ClusterApi(self._cluster) as api:
            service = api.read(f"/api/v1/namespaces/{self._namespace}/services/{self._name}")
        if service is None:
            raise LocalClusterError(f"there is no Service {self._namespace}/{self._name}")
        target = f"{service['spec']['clusterIP']}:{self._port}"
        inner = [*relay.COMMAND, f"unix:{STATE_MOUNT / 'run' / self._socket}", target]
        command = processes.nsenter_command(self._cluster, inner)
        self._inside = subprocess.Popen(command, cwd="/", env=processes.ENVIRONMENT)

    def _disconnect(self) -> None:
        if self._inside is not None:
            self._inside.kill()
            self._inside.wait()
            self._inside = None
        (self._cluster.run_dir / self._socket).unlink(missing_ok=True)


@contextlib.contextmanager
def relayed_service(cluster: LocalCluster, namespace: str, name: str, port: int) -> Iterator[ServiceRelay]:
    """Relay a port of a Service to the host.

    Raises:
        LocalClusterError: there is no such Service.
    """
    service = ServiceRelay(cluster, namespace, name, port)
    with service.running():
        yield service
