"""JSON requests to the control plane, and its problems as errors."""

from typing import Any

import httpx2

from windlass.domain.errors import UnavailableError
from windlass.wire.problems import error_from_response

_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429


def send_json(http: httpx2.Client, method: str, url: str, content: bytes | None = None) -> Any:
    """Send a request with a JSON body, once, and return the decoded reply, None without one.

    Raises:
        UnavailableError: the control plane does not answer, or answers with status 429 or 5xx.
        WindlassError: the error that the response names.
    """
    headers = {} if content is None else {"content-type": "application/json"}
    try:
        reply = http.request(method, url, content=content, headers=headers)
    except httpx2.HTTPError as error:
        raise UnavailableError(f"the control plane is unreachable: {type(error).__name__}") from error
    if reply.status_code >= _CLIENT_ERROR:
        problem = error_from_response(reply.status_code, reply.content)
        if reply.status_code >= _SERVER_ERROR or reply.status_code == _TOO_MANY_REQUESTS:
            raise UnavailableError(problem.message) from problem
        raise problem
    try:
        return reply.json() if reply.content else None
    except ValueError as error:
        raise UnavailableError("the response of the control plane is not JSON") from error
