"""Sign-in of a user of a program by the device flow of the identity provider (RFC 8628), and the stored result."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from windlass.domain.errors import (
    InvalidError,
    NotFoundError,
    RequestTimeoutError,
    UnauthenticatedError,
    UnavailableError,
)
from windlass.kit.files import write_atomic
from windlass.runtime.http import external_client
from windlass.sdk.connection import is_loopback_url, normalize_url, read_config
from windlass.wire.identity import DeviceClientOut, NewSessionOut, SignInOut
from windlass.wire.problems import error_from_response

_TIMEOUT = 30.0
_INTERVAL, _SLOW_DOWN = 5.0, 5.0
_CLIENT_ERROR = 400
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True)
class DeviceCode:
    """What the user does: open ``url`` and enter ``code``, or open ``complete_url``, which contains it."""

    url: str
    code: str
    complete_url: str


def sign_in(
    url: str, show: Callable[[DeviceCode], None], *, sleep: Callable[[float], None] = time.sleep
) -> NewSessionOut:
    """Sign a user in at a server, and return the session.

    Args:
        url: the server's URL.
        show: shows the user where to sign in.
        sleep: waits between the questions whether the user has signed in.

    Raises:
        NotFoundError: the server has no identity provider with a device flow.
        UnauthenticatedError: the user refuses, or the provider does.
        RequestTimeoutError: the user took too long.
        UnavailableError: the server or the provider does not answer.
    """
    url = normalize_url(url)
    with external_client(timeout=_TIMEOUT, direct=is_loopback_url(url)) as server:
        device = SignInOut.model_validate(_send(server, "GET", f"{url}/v1/auth")).device
        if device is None:
            raise NotFoundError(
                "this server has no sign-in for the command line", hint="use an API key: windlass login --key-file FILE"
            )
        with external_client(timeout=_TIMEOUT, direct=is_loopback_url(device.token_endpoint)) as provider:
            id_token = _id_token(provider, device, show, sleep)
        body = _send(server, "POST", f"{url}/v1/auth/cli-sessions", json={"id_token": id_token})
    return NewSessionOut.model_validate(body)


def _send(http: httpx2.Client, method: str, url: str, **options: Any) -> Any:
    try:
        reply = http.request(method, url, **options)
    except httpx2.HTTPError as error:
        raise UnavailableError(f"{url} does not answer: {type(error).__name__}") from error
    if reply.status_code >= _CLIENT_ERROR:
        raise error_from_response(reply.status_code, reply.content)
    return _json(reply)


def _json(reply: httpx2.Response) -> Any:
    try:
        return reply.json()
    except ValueError as error:
        raise UnavailableError(f"the answer of {reply.url} is not JSON") from error


def _id_token(
    http: httpx2.Client,
    device: DeviceClientOut,
    show: Callable[[DeviceCode], None],
    sleep: Callable[[float], None],
) -> str:
    form = {"client_id": device.client_id, "scope": device.scope}
    begun = _ask(http, device.device_authorization_endpoint, form)
    if "device_code" not in begun:
        raise UnauthenticatedError(f"the identity provider refuses: {str(begun.get('error'))[:100]}")
    plain = str(begun["verification_uri"])
    show(DeviceCode(plain, str(begun["user_code"]), str(begun.get("verification_uri_complete", plain))))
    interval = float(begun.get("interval", _INTERVAL))
    form = {"grant_type": _GRANT, "device_code": str(begun["device_code"]), "client_id": device.client_id}
    waited = 0.0
    while waited < float(begun["expires_in"]):
        sleep(interval)
        waited += interval
        reply = _ask(http, device.token_endpoint, form)
        if isinstance(reply.get("id_token"), str):
            return str(reply["id_token"])
        match reply.get("error"):
            case "authorization_pending":
                pass
            case "slow_down":
                interval += _SLOW_DOWN
            case error:
                raise UnauthenticatedError(f"the sign-in was refused: {str(error)[:100]}", hint="sign in again")
    raise RequestTimeoutError("nobody signed in before the code expired", hint="run the command again")


def _ask(http: httpx2.Client, url: str, form: dict[str, str]) -> dict[str, Any]:
    """Send a form to the provider; it answers errors with a JSON object too."""
    try:
        content = _json(http.post(url, data=form))
    except httpx2.HTTPError as error:
        raise UnavailableError(f"the identity provider does not answer: {type(error).__name__}") from error
    return content if isinstance(content, dict) else {}


def store_credential(config: Path, url: str, *, secret: str | None = None, key_file: Path | None = None) -> None:
    """Store a server and its credential in the config file; the project in it stays.

    Args:
        config: the config file.
        url: the server's URL.
        secret: the credential, which is stored in a file of its own with mode 0600.
        key_file: or the file that has it.

    Raises:
        InvalidError: a file cannot be written.
    """
    values = {name: value for name, value in read_config(config).items() if name == "project"}
    values["url"] = normalize_url(url)
    try:
        config.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if secret is not None:
            key_file = config.parent / "credential"
            write_atomic(key_file, secret + "\n", mode=0o600)
        if key_file is not None:
            values["key_file"] = str(key_file.absolute())
        # A JSON string is a TOML basic string.
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in sorted(values.items())]
        write_atomic(config, "".join(lines), mode=0o600)
    except OSError as error:
        raise InvalidError(f"{config} cannot be written: {error.strerror}") from error


def forget_credential(config: Path) -> None:
    """Remove the stored credential; the server and the project stay."""
    values = read_config(config)
    kept = [f"{name} = {json.dumps(values[name])}\n" for name in ("project", "url") if name in values]
    (config.parent / "credential").unlink(missing_ok=True)
    if kept:
        write_atomic(config, "".join(kept), mode=0o600)
