"""``python -m tests.factories.dying_publisher URL TOKEN URI FOLDER N``: publishes, and is killed at its n-th step.

The steps are the moments before a request is sent and after its reply has arrived, to the control plane or to the
object store. Exit status 0 when it published before the n-th step.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2

from windlass.runtime.transfers import TransferClient
from windlass.storage.presigned_transfer import PresignedTransfer


def main() -> None:
    url, token, uri, folder, kill_at = sys.argv[1:]
    send, steps = httpx2.Client.send, 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    def send_and_die(self: httpx2.Client, request: httpx2.Request, **options: Any) -> httpx2.Response:
        step()
        reply = send(self, request, **options)
        step()
        return reply

    httpx2.Client.send = send_and_die  # type: ignore[method-assign]  # this process exists to die in it
    PresignedTransfer(lambda: TransferClient(lambda: url, lambda: token)).publish(Path(folder), uri)


if __name__ == "__main__":
    main()
