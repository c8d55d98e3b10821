"""`python -m windlass_pipelines.serve FOLDER`: keep Serve equal to ``FOLDER/wish.json`` until SIGTERM.

The local Ray is found by ``RAY_ADDRESS`` and Ray's token variables. Serve outlives this process when it is killed;
the next one adopts it. With ``--shut-down`` it only ends a Serve that was left so.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray.exceptions import RayError

from windlass.runtime.reach import refuses
from windlass.serving.files import STATUS_NAME, HostStatus
from windlass_pipelines.serve.front import close_http, open_http, write_atomically
from windlass_pipelines.serve.host import Host

_WATCH_SECONDS = 0.1
_BUSY_SECONDS = 0.3
_IDLE_SECONDS = 2.0
_SERVE_AWAY_SECONDS = 15.0
_RAY_WATCH_SECONDS = 1.0
_RAY_MISSES = 3
_NAMESPACE = "windlass"

_log = logging.getLogger(__name__)


def main() -> int:
    """Run until told to stop; exit code 1 when Ray or Serve went away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shut-down", action="store_true", help="end Serve and exit")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    threading.Thread(target=_follow_ray, args=(os.environ["RAY_ADDRESS"],), daemon=True).start()
    ray.init(namespace=_NAMESPACE, log_to_driver=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    if options.shut_down:
        close_http(options.folder)
        return 0
    if not _converge(Host(options.folder, open_http(options.folder)), stopping):
        return 1
    close_http(options.folder)
    write_atomically(options.folder / STATUS_NAME, HostStatus().model_dump_json())
    return 0


def _follow_ray(address: str) -> None:
    """End this process with its Ray: calls into a Ray that has died wait for it for minutes, deaf to signals."""
    misses = 0
    while misses < _RAY_MISSES:
        time.sleep(_RAY_WATCH_SECONDS)
        misses = misses + 1 if refuses(address) else 0
    _log.error("Ray at %s is gone", address)
    # Nothing of Serve is left to be ended, and Ray's own exit handlers would wait as well.
    os._exit(1)


def _converge(host: Host, stopping: threading.Event) -> bool:
    """Step until told to stop; False when Serve has not answered for too long."""
    last_good = time.monotonic()
    while not stopping.is_set():
        pause = _BUSY_SECONDS
        try:
            if not host.step():
                pause = _IDLE_SECONDS
            last_good = time.monotonic()
        except (RayError, ConnectionError, RuntimeError) as error:
            # A controller that died is started again by Ray within seconds; a Ray that died is not.
            _log.warning("Serve does not answer: %s", error)
            if time.monotonic() - last_good > _SERVE_AWAY_SECONDS:
                return False
        _wait(host, stopping, pause)
    return True


def _wait(host: Host, stopping: threading.Event, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopping.wait(_WATCH_SECONDS):
        if host.wish_changed():
            return


if __name__ == "__main__":
    sys.exit(main())
