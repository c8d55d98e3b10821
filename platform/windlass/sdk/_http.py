"""Maps requests and responses to httpx2."""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx2

from windlass import __version__
from windlass.domain.errors import UnavailableError
from windlass.sdk._protocol import CONNECT_TIMEOUT, FileBody, Request, Response, TransportFailure
from windlass.sdk.connection import Connection

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def client_settings(connection: Connection, timeout: float) -> dict[str, Any]:
    """Return the arguments of an HTTP client for a server."""
    settings: dict[str, Any] = {
        "base_url": connection.url,
        "headers": {"Authorization": f"Bearer {connection.key}", "User-Agent": f"windlass-python/{__version__}"},
        "timeout": httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
        "follow_redirects": False,
        # A proxy from the environment cannot reach the loopback interface of this machine.
        "trust_env": not connection.is_local,
    }
    if connection.is_local and connection.url.startswith("http:"):
        # TLS is not used; an SSL context without CAs saves 0.1 s of loading them.
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return settings


def timeout_of(request: Request) -> httpx2.Timeout:
    """Return the timeouts of a request."""
    return httpx2.Timeout(request.timeout, connect=CONNECT_TIMEOUT)


def headers_of(request: Request) -> dict[str, str]:
    """Return the headers of a request, with the length of a streamed file."""
    if isinstance(request.body, FileBody):
        return {**request.headers, "Content-Length": str(request.body.length - request.body.offset)}
    return dict(request.headers)


def to_failure(error: httpx2.RequestError, url: str) -> TransportFailure:
    """Return the failure that an exception means.

    Raises:
        UnavailableError: the response is not an event stream.
    """
    if isinstance(error, httpx2.SSEError):
        raise UnavailableError(f"{url} did not return an event stream", hint="check the URL") from error
    if isinstance(error, _NOT_SENT):
        return TransportFailure(f"cannot connect to {url}: {error}", sent=False)
    if isinstance(error, httpx2.TimeoutException):
        return TransportFailure(f"request to {url} timed out", sent=True, timed_out=True)
    return TransportFailure(f"connection to {url} failed: {str(error) or type(error).__name__}", sent=True)


def to_response(response: httpx2.Response, content: bytes) -> Response:
    """Return a response with its content."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, headers, content)


def rewind(request: Request) -> None:
    """Empty the file that receives the response, which may have a part of a failed one."""
    if request.sink is not None:
        request.sink.seek(0)
        request.sink.truncate()
