"""Serve's HTTP proxy: on the loopback address, on a port that is saved for later controllers."""

import http.client
import json
import os
import socket
from pathlib import Path

from ray import serve

from windlass.kit.files import write_atomic
from windlass.serving.credentials import proxy_headers

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")
"""Accepted host names in requests."""
_PORT_FILE = "port"
_TIMEOUT_SECONDS = 5.0


def open_http(folder: Path) -> str:
    """Return the base URL of a Serve that already runs in this Ray, or start one on a free port."""
    port = _saved_port(folder)
    if port and serve.status().proxies and routes(_url(port)) is not None:
        return _url(port)
    # A partly started Serve keeps its port, so it is shut down.
    serve.shutdown()
    port = _free_port()
    write_atomic(folder / _PORT_FILE, str(port))
    # Serve's faster HAProxy mode binds two more ports on all interfaces; docs/adr has the measurements.
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": LOOPBACK, "port": port},
        logging_config={"enable_access_log": False},
    )
    return _url(port)


def close_http(folder: Path) -> None:
    """Shut down Serve and its applications; the port is free when this returns."""
    serve.shutdown()
    (folder / _PORT_FILE).unlink(missing_ok=True)


def routes(base_url: str) -> set[str] | None:
    """Return the route prefixes of the proxy, or None when it does not respond."""
    connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/-/routes", headers=proxy_headers(os.environ))
        reply = connection.getresponse()
        content = reply.read()
        # 503: the proxy runs and has no application yet.
        return set(json.loads(content)) if reply.status == http.client.OK else set()
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _saved_port(folder: Path) -> int:
    try:
        return int((folder / _PORT_FILE).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
