"""``python -m windlass.kube.preflight.probe_process serve | connect ADDRESS``: the pods of the network probe.

``serve`` listens on two ports. ``connect`` tries both; its exit code says which it has reached.
"""

import socket
import sys
import threading
import time
from typing import Final

PERMITTED_PORT: Final = 8001
DENIED_PORT: Final = 8002
ENFORCED, NOT_ENFORCED, NO_CONNECTION = 0, 10, 11
"""Exit codes of ``connect``."""
_PERMITTED_SECONDS = 30.0
"""A policy may take effect some time after the pod has started."""
_DENIED_SECONDS = 5.0


def connect(address: str, permitted: int = PERMITTED_PORT, denied: int = DENIED_PORT, seconds: float = 1.0) -> int:
    """Return the exit code. ``seconds`` scales the time of the attempts."""
    if not _reaches(address, permitted, _PERMITTED_SECONDS * seconds):
        return NO_CONNECTION
    return NOT_ENFORCED if _reaches(address, denied, _DENIED_SECONDS * seconds) else ENFORCED


def _reaches(address: str, port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, port), timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False


def main(arguments: list[str]) -> int:
    """Run one of the pods."""
    if arguments[:1] == ["connect"]:
        return connect(arguments[1])
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listeners = [
        socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6)
        for port in (PERMITTED_PORT, DENIED_PORT)
    ]
    threading.Event().wait()
    del listeners
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
