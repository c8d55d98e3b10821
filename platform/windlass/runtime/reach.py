"""Whether anybody listens at an address of this run's machine or network."""

import socket


def listens(address: str, timeout: float = 1.0) -> bool:
    """Tell whether a connection to ``host:port`` is taken."""
    try:
        _connect(address, timeout)
    except OSError:
        return False
    return True


def refuses(address: str, timeout: float = 1.0) -> bool:
    """Tell whether the machine says that nobody listens; one that is too busy to answer is no proof of that."""
    try:
        _connect(address, timeout)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _connect(address: str, timeout: float) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=timeout).close()
