"""``python -m windlass.cli.demo [--part reviews|chat|all]``."""

import argparse
import sys

from windlass.cli import failures
from windlass.cli.demo import reviews, support
from windlass.cli.demo.ground import server_client
from windlass.cli.demo.stage import DemoError, Stage
from windlass.cli.session import Session
from windlass.domain.errors import WindlassError
from windlass.sdk import Client
from windlass.sdk.connection import default_home


def main() -> int:
    """Run the demonstration; return 0 only when every step has really happened."""
    parser = argparse.ArgumentParser(prog="python -m windlass.cli.demo", description=__doc__)
    parser.add_argument("--part", choices=("reviews", "chat", "all"), default="all", help="default: all")
    part = parser.parse_args().part
    session = Session()
    stage = Stage(session.out)
    try:
        stage.title("Windlass: fine-tune, judge and serve two real models on this machine")
        with stage.phase("Start the server"):
            session.client = server_client(stage)
        if part in {"reviews", "all"}:
            reviews.run(session, stage)
        if part in {"chat", "all"}:
            support.run(session, stage)
        _close(stage, session.client, part)
    except DemoError as error:
        failures.say(f"\nthe demonstration stops: {error}")
        return failures.FAILED
    except WindlassError as error:
        failures.say("\nthe demonstration stops")
        failures.show(error)
        return failures.exit_code(error)
    except TimeoutError as error:
        failures.say(f"\nthe demonstration stops: {error}")
        return failures.WAIT_TIMED_OUT
    except KeyboardInterrupt:
        failures.say("\nstopped; the server goes on. End it with: windlass down")
        return failures.INTERRUPTED
    return failures.OK


def _close(stage: Stage, client: Client, part: str) -> None:
    stage.summary()
    stage.say(f"The server goes on at {client.connection.url}. What to try next:")
    stage.command(f"export WINDLASS_HOME={default_home()}")
    if part in {"reviews", "all"}:
        stage.command(f"windlass predict {reviews.ENDPOINT} 'It broke after two days.' 'Best purchase this year!'")
        stage.command(f"windlass model report {reviews.MODEL} --html report.html")
    if part in {"chat", "all"}:
        stage.command(f"windlass chat {support.ENDPOINT}")
    stage.command("windlass job list")
    stage.command("windlass down")


if __name__ == "__main__":
    sys.exit(main())
