"""``python -m windlass.cli.demo [--part reviews|chat|all] [--url URL --key-file FILE]``."""

import argparse
import sys
from pathlib import Path

from windlass.cli import errors
from windlass.cli.demo import reviews, support
from windlass.cli.demo.console import DemoConsole, DemoError
from windlass.cli.demo.setup import server_client
from windlass.cli.session import Session
from windlass.domain.errors import WindlassError
from windlass.sdk import Client
from windlass.sdk.connection import default_home


def main() -> int:
    """Run the demo; return 0 only if every step succeeded."""
    parser = argparse.ArgumentParser(prog="python -m windlass.cli.demo", description=__doc__)
    parser.add_argument("--part", choices=("reviews", "chat", "all"), default="all", help="default: all")
    parser.add_argument("--url", help="a server that runs already, e.g. in a cluster; default: one on this machine")
    parser.add_argument("--key-file", type=Path, help="API key for --url; default: WINDLASS_KEY")
    parser.add_argument("--project", default="default", help="project on that server; default: default")
    options = parser.parse_args()
    part = options.part
    session = Session()
    console = DemoConsole(session.out)
    try:
        console.title("Windlass: fine-tune, evaluate and serve models")
        if options.url:
            session.client = Client(url=options.url, key_file=options.key_file, project=options.project)
        else:
            with console.phase("Start the server"):
                session.client = server_client(console)
        if part in {"reviews", "all"}:
            reviews.run(session, console)
        if part in {"chat", "all"}:
            support.run(session, console)
        _close(console, session.client, part, on_this_machine=not options.url)
    except DemoError as error:
        errors.print_stderr(f"\nthe demo failed: {error}")
        return errors.FAILED
    except WindlassError as error:
        errors.print_stderr("\nthe demo failed")
        errors.print_error(error)
        return errors.exit_code(error)
    except TimeoutError as error:
        errors.print_stderr(f"\nthe demo failed: {error}")
        return errors.WAIT_TIMED_OUT
    except KeyboardInterrupt:
        errors.print_stderr("\nstopped; the server keeps running. Stop it with: windlass down")
        return errors.INTERRUPTED
    return errors.OK


def _close(console: DemoConsole, client: Client, part: str, *, on_this_machine: bool) -> None:
    console.summary()
    console.message(f"The server keeps running at {client.connection.url}. Next commands:")
    if on_this_machine:
        console.command(f"export WINDLASS_HOME={default_home()}")
    else:
        console.command(f"export WINDLASS_URL={client.connection.url} WINDLASS_PROJECT={client.connection.project}")
    if part in {"reviews", "all"}:
        console.command(f"windlass predict {reviews.ENDPOINT} 'It broke after two days.' 'Best purchase this year!'")
        console.command(f"windlass model report {reviews.MODEL} --html report.html")
    if part in {"chat", "all"}:
        console.command(f"windlass chat {support.ENDPOINT}")
    console.command("windlass job list")
    if on_this_machine:
        console.command("windlass down")


if __name__ == "__main__":
    sys.exit(main())
