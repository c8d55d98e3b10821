"""``windlass up``: start the server of this machine."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from windlass.cli import failures, local_server
from windlass.cli.local_server import LocalServer
from windlass.cli.safe_text import lines
from windlass.cli.session import Session, verb
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.sdk.connection import default_home

app = typer.Typer(add_completion=False)

Home = Annotated[
    Path | None, typer.Option(help="Data folder; else WINDLASS_HOME, else the user's data folder.", show_default=False)
]
_LOOK_SECONDS = 0.2
_MEANINGS = {2: "bad settings", 5: "the data folder belongs to another server", 7: "the port is taken"}


@app.command()
@verb
def up(
    session: Session,
    home: Home = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = local_server.DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback open it to the network.")
    ] = "127.0.0.1",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Work for the cluster that KUBECONFIG names: its pools, projects, quotas.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready; it goes on.")] = False,
) -> None:
    """Start the server of this machine: API, queue, training and serving in one data folder.

    With --cluster it is the control plane of a cluster, whose resources own pools, projects and quotas.
    """
    folder = (home or default_home()).expanduser().absolute()
    running = local_server.read(folder)
    if running is not None and detach:
        session.say("it runs already")
        _tell(session, running, stop="windlass down")
        return
    process = local_server.start(folder, port, host, cluster=cluster)
    if not detach:
        _foreground(session, folder, process)
        return
    try:
        ready = local_server.wait_ready(folder, process)
    except KeyboardInterrupt:
        processes.kill(process, grace_seconds=10.0)
        raise
    if isinstance(ready, int):
        _died(session, folder, ready)
    else:
        _tell(session, ready, stop="windlass down")


def _foreground(session: Session, folder: Path, process: ProcessRecord) -> None:
    """Stand before the server until it ends; a signal to this process asks the server to stop."""
    asked = 0

    def ask(number: int, frame: FrameType | None) -> None:
        # Nothing is printed here: the signal may come while a line is being printed.
        del number, frame
        nonlocal asked
        asked += 1
        processes.send(process, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    ready = local_server.wait_ready(folder, process)
    if not isinstance(ready, int) and not asked:
        _tell(session, ready, stop="Ctrl-C")
    told, code = 0, ready if isinstance(ready, int) else None
    while code is None:
        if asked > told:
            again = f"still stopping; `kill -9 {process.pid}` ends the server at once"
            session.say(again if told else "stopping")
            told = asked
        time.sleep(_LOOK_SECONDS)
        code = processes.exit_code(process)
    if code and not asked:
        _died(session, folder, code)
    session.say("stopped")
    raise typer.Exit(max(code, failures.OK))


def _tell(session: Session, server: LocalServer, *, stop: str) -> None:
    facts = {
        "url": server.url,
        "home": str(server.home),
        "key_file": str(server.key_file),
        "log": str(server.home / local_server.LOG_FILE),
        "pid": server.pid,
        "stop": stop,
    }
    if session.machine:
        session.document(facts)
        return
    session.write(f"windlass is ready at {server.url}\n")
    session.say(f"  data  {server.home}\n  key   {server.key_file} (commands on this machine find it)\n  stop  {stop}")
    if server.home != default_home():
        session.say(f"  use   export WINDLASS_HOME={server.home}")


def _died(session: Session, folder: Path, code: int) -> None:
    words = local_server.last_words(folder)
    if words:
        session.say(lines(words))
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    meaning = f": {_MEANINGS[code]}" if code in _MEANINGS else ""
    session.say(f"error: the server ended {how}{meaning}\n  hint: the whole log is {folder / local_server.LOG_FILE}")
    raise typer.Exit(code if code > 0 else failures.FAILED)
