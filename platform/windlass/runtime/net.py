"""TCP connection checks."""

import socket


def is_listening(address: str, timeout: float = 1.0) -> bool:
    """Return whether ``host:port`` accepts a connection within ``timeout`` seconds."""
    try:
        _connect(address, timeout)
    except OSError:
        return False
    return True


def is_connection_refused(address: str, timeout: float = 1.0) -> bool:
    """Return whether ``host:port`` refuses the connection. A timeout is not a refusal: the host may be overloaded."""
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
