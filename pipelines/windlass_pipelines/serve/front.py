"""Serve's HTTP: on the loopback address, on a port that a later host finds again."""

import http.client
import json
import socket
from pathlib import Path

from ray import serve

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")
"""Names by which a request may address the server."""
_PORT_NAME = "port"
_SECONDS = 5.0


def open_http(folder: Path) -> str:
    """Return the base URL of the Serve that an earlier host left in this Ray, or start one on a free port."""
    known = _known_port(folder)
    if known and serve.status().proxies and routes(_url(known)) is not None:
        return _url(known)
    # What is left of a start that was cut short cannot be given another port.
    serve.shutdown()
    port = _free_port()
    write_atomically(folder / _PORT_NAME, str(port))
    # Serve's faster path, HAProxy, binds two more ports on all interfaces: docs/adr has the measurements.
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": LOOPBACK, "port": port},
        logging_config={"enable_access_log": False},
    )
    return _url(port)


def close_http(folder: Path) -> None:
    """End Serve with all that it runs; the port is free when this returns."""
    serve.shutdown()
    (folder / _PORT_NAME).unlink(missing_ok=True)


def routes(base_url: str) -> set[str] | None:
    """Return the route prefixes that the proxy knows by now, None when nothing of that kind answers."""
    connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=_SECONDS)
    try:
        connection.request("GET", "/-/routes")
        reply = connection.getresponse()
        content = reply.read()
        # 503: up, and no application yet.
        return set(json.loads(content)) if reply.status == http.client.OK else set()
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old content or the new."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _known_port(folder: Path) -> int:
    try:
        return int((folder / _PORT_NAME).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
