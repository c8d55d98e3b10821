"""Resolves server URL, API key and project from arguments, environment, config file or the local data directory."""

import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from windlass.domain.errors import InvalidError, UnauthenticatedError, UnavailableError

DEFAULT_PROJECT = "default"
SERVER_FILE = "server.json"
KEY_FILE = "admin.key"


@dataclass(frozen=True, slots=True)
class Connection:
    """Server URL, API key and project. ``source`` is the origin of the URL."""

    url: str
    key: str = field(repr=False)
    project: str
    source: str

    def with_project(self, project: str) -> "Connection":
        """Return the same connection for another project."""
        return replace(self, project=project)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, so that proxies are bypassed."""
        return is_loopback_url(self.url)


def is_loopback_url(url: str) -> bool:
    """Return whether a URL names this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the data directory of the embedded server: ``WINDLASS_HOME``, else the user's data directory."""
    chosen = environment.get("WINDLASS_HOME")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_data_path("windlass")


def config_path() -> Path:
    """Return the path of the user's config file: TOML with ``url``, ``key`` or ``key_file``, ``project``."""
    return platformdirs.user_config_path("windlass") / "config.toml"


def resolve(
    *,
    url: str | None = None,
    key: str | None = None,
    project: str | None = None,
    key_file: Path | None = None,
    home: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    config: Path | None = None,
) -> Connection:
    """Resolve server, key and project.

    A stored key is sent only to its own server: the key of the config file to the URL of the config file, the key of
    the data directory to the server of that directory. An explicit key or ``WINDLASS_KEY`` is sent to any URL.

    Raises:
        UnavailableError: no server URL is configured.
        UnauthenticatedError: no API key is configured for the server.
        InvalidError: a file or the URL is invalid.
    """
    home = home or default_home(environment)
    stored = read_config(config or config_path())
    local_url = local_server_url(home)
    server_url = url or environment.get("WINDLASS_URL") or stored.get("url") or local_url
    if server_url is None:
        raise UnavailableError(
            f"no server URL is configured, and no server runs in {home}",
            hint="start a server with `windlass up`, or set WINDLASS_URL and WINDLASS_KEY",
        )
    server_url = normalize_url(server_url)
    source = _source(server_url, url, environment.get("WINDLASS_URL"), stored.get("url"))
    secret = (_read_key(key_file) if key_file else key) or environment.get("WINDLASS_KEY")
    if not secret and server_url == (stored.get("url") or "").rstrip("/"):
        secret = _stored_key(stored)
    if not secret and local_url is not None and server_url == local_url.rstrip("/"):
        secret = _read_key(home / KEY_FILE)
    if not secret:
        raise UnauthenticatedError(
            f"no API key is configured for {server_url}",
            hint="sign in with `windlass login`, set WINDLASS_KEY, or pass --key-file",
        )
    project = project or environment.get("WINDLASS_PROJECT") or stored.get("project") or DEFAULT_PROJECT
    return Connection(url=server_url, key=_validate_key(secret), project=project, source=source)


def local_server_url(home: Path) -> str | None:
    """Return the URL in ``server.json`` of a data directory, None if there is none."""
    try:
        content = json.loads((home / SERVER_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InvalidError(
            f"cannot read {home / SERVER_FILE}: {error}", hint="stop the server and delete the file"
        ) from error
    url = content.get("url") if isinstance(content, dict) else None
    return url if isinstance(url, str) else None


def _source(url: str, argument: str | None, variable: str | None, stored: str | None) -> str:
    for value, name in ((argument, "argument"), (variable, "WINDLASS_URL"), (stored, "config file")):
        if value is not None and value.rstrip("/") == url:
            return name
    return "data directory"


def normalize_url(url: str) -> str:
    """Return a server URL without the path of the API.

    Raises:
        InvalidError: it is no URL of a server.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise InvalidError(f"invalid server URL {url!r}", hint="use http://HOST:PORT or https://HOST")
    return url.rstrip("/").removesuffix("/v1")


def read_config(path: Path) -> dict[str, str]:
    """Return the values of a config file, none if it does not exist.

    Raises:
        InvalidError: it cannot be read, or has an unknown key.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InvalidError(f"cannot read {path}: {error}") from error
    unknown = sorted(set(values) - {"url", "key", "key_file", "project"})
    if unknown or not all(isinstance(value, str) for value in values.values()):
        problem = f"unknown key {unknown[0]!r}" if unknown else "every value must be a string"
        raise InvalidError(f"{path}: {problem}", hint="known keys: url, key, key_file, project")
    return values


def _stored_key(stored: Mapping[str, str]) -> str | None:
    if "key_file" in stored:
        return _read_key(Path(stored["key_file"]).expanduser())
    return stored.get("key")


def _read_key(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UnauthenticatedError(f"cannot read the key file {path}: {reason}") from error


def _validate_key(secret: str) -> str:
    secret = secret.strip()
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UnauthenticatedError(
            "the API key contains invalid characters", hint="a key is one line of printable ASCII without spaces"
        )
    return secret
