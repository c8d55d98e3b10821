"""The credential of Ray Serve's HTTP proxy, which every request needs.

On one machine it is derived from the token of the Ray that runs Serve, so it ends with that Ray. The Ray token itself
is never sent over HTTP: another process may listen on the port after Serve has exited, and Ray's token would let it run
code.

In a pod it is a file of the mounted Secret, which the control plane has written.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path

from windlass.serving.environment import AUTHORIZATION_FILE, CREDENTIALS_VARIABLE

PROXY_CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Ray Serve's variable: what its proxy process imports to get its middlewares."""
PROXY_CALLBACK = "windlass_pipelines.serve.proxy_auth.middlewares"
_TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - the name of a variable
_PURPOSE = b"windlass serve http proxy"


def proxy_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the proxy requires; empty when there is no credential yet.

    Args:
        environment: variables of a process that joins Ray.
    """
    try:
        if CREDENTIALS_VARIABLE in environment:
            folder = Path(environment[CREDENTIALS_VARIABLE])
            return {"Authorization": (folder / AUTHORIZATION_FILE).read_text(encoding="ascii").strip()}
        token = Path(environment[_TOKEN_PATH_VARIABLE]).read_bytes().strip()
    except (KeyError, FileNotFoundError):
        return {}
    return {"Authorization": f"Bearer {hmac.digest(token, _PURPOSE, 'sha256').hex()}"}
