"""``windlass up``: start the local server."""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated
from urllib.parse import urlsplit

import typer

from windlass.cli import errors, local_server
from windlass.cli.local_server import LocalServer
from windlass.cli.safe_text import lines
from windlass.cli.session import Session, command
from windlass.domain.errors import InvalidError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.sdk.connection import default_home

app = typer.Typer(add_completion=False)

Home = Annotated[
    Path | None,
    typer.Option(help="Data directory; default: WINDLASS_HOME, then the user's data directory.", show_default=False),
]
_POLL_SECONDS = 0.2
_EXIT_CODES = {2: "invalid settings", 5: "the data directory is used by another server", 7: "the port is in use"}


@app.command()
@command
def up(
    session: Session,
    *,
    home: Home = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0: a free port.", show_default=str(local_server.DEFAULT_PORT)),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Listen address; an address other than loopback exposes the server to the network.")
    ] = "127.0.0.1",
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="PostgreSQL, as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; default: SQLite in the data directory.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Bucket for files, as s3://BUCKET, with the endpoint and the keys in WINDLASS_S3_ENDPOINT, "
            "WINDLASS_S3_ACCESS_KEY_ID and WINDLASS_S3_SECRET_ACCESS_KEY; default: a folder of the data directory.",
        ),
    ] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Run the control plane of the cluster that KUBECONFIG selects.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background; return when the server is ready.")
    ] = False,
) -> None:
    """Start the local server: API, queue, training and serving, with one data directory.

    With --cluster it is the control plane of a cluster; pools, projects and quotas are the cluster's resources.
    """
    folder = (home or default_home()).expanduser().absolute()
    running = local_server.read(folder)
    if running is not None and detach:
        session.message("already running")
        if port and port != urlsplit(running.url).port:
            session.message(f"--port {port} has no effect on a running server; stop it first: windlass down")
        _print_ready(session, running, stop="windlass down")
        return
    environment = {**os.environ, **_storage_variables(database, store)}
    process = local_server.start(
        folder, local_server.DEFAULT_PORT if port is None else port, host, environment, cluster=cluster
    )
    if not detach:
        _foreground(session, folder, process)
        return
    try:
        ready = local_server.wait_ready(folder, process)
    except KeyboardInterrupt:
        processes.kill(process, grace_seconds=10.0)
        raise
    if isinstance(ready, int):
        _fail(session, folder, ready)
    else:
        _print_ready(session, ready, stop="windlass down")


def _storage_variables(database: str | None, store: str | None) -> dict[str, str]:
    """Return the settings of the server's process; a password in a URL is not on its command line.

    Raises:
        InvalidError: a URL names no PostgreSQL database, or no bucket.
    """
    variables = {}
    if database is not None:
        scheme, separator, rest = database.partition("://")
        if scheme not in {"postgresql", "postgres", "postgresql+psycopg"} or not separator or not rest:
            raise InvalidError(
                "--database is not the URL of a PostgreSQL database",
                hint="use postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or leave it out for SQLite",
            )
        variables["WINDLASS_DATABASE_URL"] = f"postgresql+psycopg://{rest}"
    if store is not None:
        parts = urlsplit(store)
        if parts.scheme != "s3" or not parts.netloc or parts.path.strip("/") or parts.query:
            raise InvalidError("--store is not the URL of a bucket", hint="use s3://BUCKET")
        variables["WINDLASS_S3_BUCKET"] = parts.netloc
    return variables


def _foreground(session: Session, folder: Path, process: ProcessRecord) -> None:
    """Wait until the server exits; forward termination signals to it."""
    received = 0

    def forward(number: int, frame: FrameType | None) -> None:
        # No output here: the signal may interrupt a print.
        del number, frame
        nonlocal received
        received += 1
        processes.send_signal(process, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    ready = local_server.wait_ready(folder, process)
    if not isinstance(ready, int) and not received:
        _print_ready(session, ready, stop="Ctrl-C")
    reported, code = 0, ready if isinstance(ready, int) else None
    while code is None:
        if received > reported:
            repeated = f"still stopping; `kill -9 {process.pid}` kills the server"
            session.message(repeated if reported else "stopping")
            reported = received
        time.sleep(_POLL_SECONDS)
        code = processes.exit_code(process)
    if code and not received:
        _fail(session, folder, code)
    session.message("stopped")
    raise typer.Exit(max(code, errors.OK))


def _print_ready(session: Session, server: LocalServer, *, stop: str) -> None:
    details = {
        "url": server.url,
        "home": str(server.home),
        "key_file": str(server.key_file),
        "log": str(server.home / local_server.LOG_FILE),
        "pid": server.pid,
        "stop": stop,
    }
    if session.machine:
        session.document(details)
        return
    session.write(f"windlass is ready at {server.url}\n")
    session.message(
        f"  web   windlass open\n  data  {server.home}\n"
        f"  key   {server.key_file} (used by commands on this machine)\n  stop  {stop}"
    )
    if server.home != default_home():
        session.message(f"  use   export WINDLASS_HOME={server.home}")


def _fail(session: Session, folder: Path, code: int) -> None:
    tail = local_server.log_tail(folder)
    if tail:
        session.message(lines(tail))
    cause = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    meaning = f": {_EXIT_CODES[code]}" if code in _EXIT_CODES else ""
    log = folder / local_server.LOG_FILE
    session.message(f"error: the server {cause}{meaning}\n  hint: see the log {log}")
    raise typer.Exit(code if code > 0 else errors.FAILED)
