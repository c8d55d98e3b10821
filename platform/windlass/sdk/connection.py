"""Where the server is and who asks: arguments, environment, config file, or the server on this machine."""

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
    """A server, a credential and a project. ``source`` says where the URL came from."""

    url: str
    key: str = field(repr=False)
    project: str
    source: str

    def at(self, project: str) -> "Connection":
        """Return the connection for another project."""
        return replace(self, project=project)

    @property
    def local(self) -> bool:
        """Whether the server is on this machine: then no proxy stands between."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def default_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the data folder of the embedded server: ``WINDLASS_HOME``, else the user's data folder."""
    chosen = environment.get("WINDLASS_HOME")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_data_path("windlass")


def config_path() -> Path:
    """Return where the config file of this user may stand: TOML with ``url``, ``key`` or ``key_file``, ``project``."""
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
    """Find server, key and project.

    A key goes only to the server that it was stored for: that of the config file to the config file's URL, that of the
    data folder to the server of that folder. An explicit key or ``WINDLASS_KEY`` goes to whichever URL was found.

    Raises:
        UnavailableError: no server is known.
        UnauthenticatedError: no key is known for it.
        InvalidError: a file or URL cannot be read.
    """
    home = home or default_home(environment)
    stored = _config(config or config_path())
    here = local_server_url(home)
    wished = url or environment.get("WINDLASS_URL")
    found = wished or stored.get("url") or here
    if found is None:
        raise UnavailableError(
            f"no server is known: none runs in {home}, and no URL is set",
            hint="start one here with `windlass up`, or set WINDLASS_URL and WINDLASS_KEY",
        )
    found = _checked(found)
    source = _source(found, url, environment.get("WINDLASS_URL"), stored.get("url"))
    secret = (_read_key(key_file) if key_file else key) or environment.get("WINDLASS_KEY")
    if not secret and found == (stored.get("url") or "").rstrip("/"):
        secret = _stored_key(stored)
    if not secret and here is not None and found == here.rstrip("/"):
        secret = _read_key(home / KEY_FILE)
    if not secret:
        raise UnauthenticatedError(
            f"no key is known for {found}", hint="set WINDLASS_KEY, or give the file that holds it with --key-file"
        )
    named = project or environment.get("WINDLASS_PROJECT") or stored.get("project") or DEFAULT_PROJECT
    return Connection(url=found, key=_one_line(secret), project=named, source=source)


def local_server_url(home: Path) -> str | None:
    """Return the URL that the embedded server of a data folder wrote down, None when there is none."""
    try:
        said = json.loads((home / SERVER_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InvalidError(
            f"{home / SERVER_FILE} cannot be read: {error}", hint="stop the server and remove the file"
        ) from error
    url = said.get("url") if isinstance(said, dict) else None
    return url if isinstance(url, str) else None


def _source(found: str, argument: str | None, variable: str | None, stored: str | None) -> str:
    for value, name in ((argument, "argument"), (variable, "WINDLASS_URL"), (stored, "config file")):
        if value is not None and value.rstrip("/") == found:
            return name
    return "data folder"


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise InvalidError(f"{url!r} is no server URL", hint="write http://HOST:PORT or https://HOST")
    return url.rstrip("/").removesuffix("/v1")


def _config(path: Path) -> dict[str, str]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} cannot be read: {error}") from error
    unknown = sorted(set(values) - {"url", "key", "key_file", "project"})
    if unknown or not all(isinstance(value, str) for value in values.values()):
        wrong = f"unknown key {unknown[0]!r}" if unknown else "every value must be a string"
        raise InvalidError(f"{path}: {wrong}", hint="known keys: url, key, key_file, project")
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
        raise UnauthenticatedError(f"the key file {path} cannot be read: {reason}") from error


def _one_line(secret: str) -> str:
    secret = secret.strip()
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UnauthenticatedError(
            "the key has characters that no key has", hint="a key is one line of plain characters"
        )
    return secret
