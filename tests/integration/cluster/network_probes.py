"""Tries TCP connections from pods of the cluster."""

import json
from collections.abc import Collection

from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import kubectl
from tests.testcluster.layout import LocalCluster

CONNECT = """
import concurrent.futures, json, os, socket, sys
os.environ["RES_OPTIONS"] = "timeout:2 attempts:1"
def connects(target):
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True
with concurrent.futures.ThreadPoolExecutor(len(sys.argv)) as pool:
    print(json.dumps(list(pool.map(connects, sys.argv[1:]))))
"""
"""A program that tries each HOST:PORT of its arguments in parallel, and prints a JSON list of booleans."""


def reachable(cluster: LocalCluster, namespace: str, pod: str, targets: Collection[str]) -> set[str]:
    """The targets HOST:PORT to which a pod can connect."""
    output = kubectl(cluster, "-n", namespace, "exec", pod, "--", "python", "-c", CONNECT, *targets)
    return {target for target, connects in zip(targets, json.loads(output), strict=True) if connects}


def eventually_reachable(
    cluster: LocalCluster, namespace: str, pod: str, targets: Collection[str], expected: Collection[str]
) -> None:
    """Wait until a pod can connect to exactly the expected targets."""
    found: set[str] = set()

    def as_expected() -> bool:
        found.clear()
        found.update(reachable(cluster, namespace, pod, targets))
        return found == set(expected)

    try:
        eventually(as_expected, "connections", 60)
    except AssertionError as timeout:
        raise AssertionError(f"{namespace}/{pod} reaches {sorted(found)}, not {sorted(expected)}") from timeout
