"""The Ray head of the embedded mode: `python -m windlass_pipelines.train.ray_head` runs it in the foreground.

It creates the node itself instead of calling ``ray start``: that command imports Ray Serve and pandas for its other
sub-commands (4 of its 5 CPU seconds), cannot bind to the loopback address (it replaces 127.0.0.1 by the machine's
external address), and always starts the autoscaler monitor and the Ray Client server. This uses Ray internals, so Ray
is pinned to one release.
"""

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.node import Node
from ray._private.parameter import RayParams

from windlass.kit.files import write_atomic

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.5
_SYSTEM_CONFIG = {
    # The head has more logical CPUs than the machine has cores; Ray would keep that many idle worker processes.
    "num_workers_soft_limit": 2,
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
    "enable_metrics_collection": False,
}


def main() -> None:
    """Start the head, write its address to ``--ready`` when it accepts connections, run until it dies or SIGTERM."""
    options = _options()
    if os.environ.get("RAY_AUTH_MODE") != "token":
        sys.exit("refusing to start Ray without RAY_AUTH_MODE=token")
    ensure_token_if_auth_enabled(create_token_if_missing=False)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: stopping.append(signum))
    with socket.socket() as occupied:
        occupied.bind((LOOPBACK, 0))
        occupied.listen()
        node = Node(_parameters(options, occupied.getsockname()[1]), head=True, spawn_reaper=True)
    try:
        write_atomic(options.ready, node.address, durable=False)
        while not stopping:
            if dead := node.dead_processes():
                sys.exit(f"Ray process {dead[0][0]} died (exit code {dead[0][1].returncode})")
            time.sleep(_POLL_SECONDS)
    finally:
        options.ready.unlink(missing_ok=True)
        node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)


def _parameters(options: argparse.Namespace, occupied_port: int) -> RayParams:
    return RayParams(
        node_ip_address=LOOPBACK,
        gcs_server_port=0,
        num_cpus=options.cpus,
        object_store_memory=options.object_store_bytes,
        temp_dir=str(options.temp_dir),
        include_dashboard=False,
        dashboard_host=LOOPBACK,
        # Without a dashboard Ray still starts the dashboard server (190 MB) for usage reports and waits for it (3 CPU
        # seconds). When its port is taken, Ray logs that and continues without it.
        dashboard_port=occupied_port,
        dashboard_agent_listen_port=0,
        no_monitor=True,
        include_log_monitor=False,
        _system_config=_SYSTEM_CONFIG,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--temp-dir", type=Path, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--object-store-bytes", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
