"""`python -m windlass_pipelines.serve FOLDER` reconciles Ray Serve with ``FOLDER/desired.json`` until SIGTERM.

It connects to the local Ray with ``RAY_ADDRESS`` and Ray's token variables. Serve keeps running when this process is
killed, and the next one adopts it; ``--shut-down`` only shuts down such a Serve.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray.exceptions import RayError

from windlass.kit.files import write_atomic
from windlass.runtime.net import is_connection_refused
from windlass.serving.state_files import STATUS_NAME, ServeControllerStatus
from windlass_pipelines.serve.controller import ServeController
from windlass_pipelines.serve.http_proxy import close_http, open_http

_POLL_SECONDS = 0.1
_BUSY_SECONDS = 0.3
_IDLE_SECONDS = 2.0
_SERVE_UNAVAILABLE_SECONDS = 15.0
_RAY_PROBE_SECONDS = 1.0
_MAX_RAY_REFUSALS = 3
_NAMESPACE = "windlass"

_log = logging.getLogger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; returns 1 when Ray or Serve is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shut-down", action="store_true", help="shut down Serve and exit")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    threading.Thread(target=_watch_ray, args=(os.environ["RAY_ADDRESS"],), daemon=True).start()
    ray.init(namespace=_NAMESPACE, log_to_driver=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    if options.shut_down:
        close_http(options.folder)
        return 0
    if not _run_loop(ServeController(options.folder, open_http(options.folder)), stopping):
        return 1
    close_http(options.folder)
    with contextlib.suppress(OSError):  # a full disk: the server removes the file after this process has ended
        write_atomic(options.folder / STATUS_NAME, ServeControllerStatus().model_dump_json(), durable=False)
    return 0


def _watch_ray(address: str) -> None:
    """Exit the process when Ray is lost: calls into a lost Ray block for minutes and ignore signals."""
    refusals = 0
    while refusals < _MAX_RAY_REFUSALS:
        time.sleep(_RAY_PROBE_SECONDS)
        refusals = refusals + 1 if is_connection_refused(address) else 0
    _log.error("Ray at %s is lost", address)
    # Serve is gone with Ray, and Ray's exit handlers would block too.
    os._exit(1)


def _run_loop(controller: ServeController, stopping: threading.Event) -> bool:
    """Reconcile until ``stopping`` is set; returns False when Serve is unavailable for too long."""
    last_success = time.monotonic()
    while not stopping.is_set():
        interval = _BUSY_SECONDS
        try:
            if not controller.step():
                interval = _IDLE_SECONDS
            last_success = time.monotonic()
        except (RayError, ConnectionError, RuntimeError) as error:
            # Ray restarts a dead Serve controller actor within seconds.
            _log.warning("Serve does not respond: %s", error)
            if time.monotonic() - last_success > _SERVE_UNAVAILABLE_SECONDS:
                return False
        except OSError as error:
            # A full disk. The replicas serve without a status file; the next pass retries.
            _log.warning("cannot read or write the state files: %s", error)
            last_success = time.monotonic()
        _wait(controller, stopping, interval)
    return True


def _wait(controller: ServeController, stopping: threading.Event, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopping.wait(_POLL_SECONDS):
        if controller.desired_changed():
            return


if __name__ == "__main__":
    sys.exit(main())
