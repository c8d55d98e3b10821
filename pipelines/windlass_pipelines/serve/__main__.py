"""`python -m windlass_pipelines.serve FOLDER`: keep Serve equal to ``FOLDER/wish.json`` until SIGTERM.

The local Ray is found by ``RAY_ADDRESS`` and Ray's token variables. Serve outlives this process when it is killed;
the next one adopts it. With ``--shut-down`` it only ends a Serve that was left so.
"""

import argparse
import http.client
import logging
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import ray
from ray import serve
from ray.exceptions import RayError

from windlass.domain.endpoints import ServingStatus
from windlass_pipelines.serve.host import STATUS_NAME, Host, write_atomically

_PORT_NAME = "port"
_LOOPBACK = "127.0.0.1"
_HOSTS = (_LOOPBACK, "localhost")
_WATCH_SECONDS = 0.1
_BUSY_SECONDS = 0.3
_IDLE_SECONDS = 2.0
_RAY_AWAY_SECONDS = 15.0
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
    ray.init(namespace=_NAMESPACE, log_to_driver=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    if options.shut_down:
        _end_serve(options.folder)
        return 0
    port = _open_http(options.folder)
    host = Host(options.folder, f"http://{_LOOPBACK}:{port}", _HOSTS)
    if not _converge(host, stopping):
        return 1
    _end_serve(options.folder)
    return 0


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
            if time.monotonic() - last_good > _RAY_AWAY_SECONDS:
                return False
        _wait(host, stopping, pause)
    return True


def _wait(host: Host, stopping: threading.Event, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopping.wait(_WATCH_SECONDS):
        if host.wish_changed():
            return


def _open_http(folder: Path) -> int:
    """Return the port of the Serve that an earlier host left in this Ray, or start one on a free port."""
    known = _known_port(folder)
    if known and serve.status().proxies and _answers(known):
        return known
    # What is left of a start that was cut short cannot be given another port.
    serve.shutdown()
    port = _free_port()
    write_atomically(folder / _PORT_NAME, str(port))
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": _LOOPBACK, "port": port},
        logging_config={"enable_access_log": False},
    )
    return port


def _end_serve(folder: Path) -> None:
    serve.shutdown()
    ray.shutdown()
    (folder / _PORT_NAME).unlink(missing_ok=True)
    write_atomically(folder / STATUS_NAME, ServingStatus().model_dump_json())


def _known_port(folder: Path) -> int:
    try:
        return int((folder / _PORT_NAME).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", "/-/routes")
        return connection.getresponse().status in {200, 503}
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
