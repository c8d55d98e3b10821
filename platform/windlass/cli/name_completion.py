"""Completes names of objects in the shell. It is fast and silent: without a server it completes nothing."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import typer

from windlass.kit.files import write_atomic

if TYPE_CHECKING:
    from windlass.sdk import Client

Complete = Callable[[typer.Context, str], list[str]]

_CACHE_SECONDS = 5.0
_TIMEOUT_SECONDS = 0.7
_MAX_NAMES = 200


def _jobs(client: "Client") -> Iterable[str]:
    jobs = [*islice(client.jobs.list(), _MAX_NAMES)]
    names = [job.name for job in jobs if job.name and " " not in job.name]
    return ["@last", *(job.id for job in jobs), *dict.fromkeys(names)] if jobs else []


_NAMES: dict[str, Callable[["Client"], Iterable[str]]] = {
    "base model": lambda client: (model.name for model in client.base_models.list()),
    "dataset": lambda client: (dataset.name for dataset in client.datasets.list()),
    "endpoint": lambda client: (endpoint.name for endpoint in client.endpoints.list()),
    "job": _jobs,
    "key": lambda client: (key.id for key in client.keys.list() if key.revoked_at is None),
    "member": lambda client: (member.name for member in client.members.list()),
    "model": lambda client: (model.name for model in client.models.list()),
    "pool": lambda client: (pool.name for pool in client.pools.list()),
    "project": lambda client: (project.name for project in client.projects.list()),
}
_VERSIONS: dict[str, Callable[["Client", str], Iterable[str]]] = {
    "dataset": lambda client, name: (version.ref for version in client.datasets.versions(name)),
    "model": lambda client, name: [
        *(f"{name}@{alias}" for alias in client.models.get(name).aliases),
        *(f"{name}@{version.number}" for version in client.models.versions(name)),
    ],
}


def names_of(kind: str, *, versions: bool = False) -> Complete:
    """Return a completion of the names of one kind of objects; with ``versions``, of ``NAME@VERSION`` after ``@``."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        name, separator, _ = incomplete.partition("@")
        if versions and separator:
            listed = _cached(context, f"{kind} {name}", lambda client: _VERSIONS[kind](client, name))
        else:
            listed = _cached(context, kind, _NAMES[kind])
        return [each for each in listed if each.startswith(incomplete)]

    return complete


def _cached(context: typer.Context, subject: str, read: Callable[["Client"], Iterable[str]]) -> list[str]:
    """Return the names from the cache of the last seconds, or else from the server; empty when it does not answer."""
    given = {name: context.params.get(name) for name in ("project", "server", "key_file")}
    path = _cache_path(subject, given)
    try:
        if 0 <= time.time() - path.stat().st_mtime < _CACHE_SECONDS:
            cached: list[str] = json.loads(path.read_bytes())
            return cached
    except (OSError, ValueError):
        pass  # not cached
    from windlass.sdk import Client  # noqa: PLC0415 - slow to import, and not needed with a cached answer

    names: list[str] = []

    def ask() -> None:
        try:
            url, project, key_file = given["server"], given["project"], given["key_file"]
            with Client(url, project=project, key_file=key_file, timeout=_TIMEOUT_SECONDS, retries=0) as client:
                names.extend(islice(read(client), _MAX_NAMES))
            _store(path, names)
        except Exception:  # noqa: BLE001, S110 - whatever is wrong, a completion prints nothing into the prompt
            pass

    # a connection to a host that does not answer takes longer than the timeout of a request
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_TIMEOUT_SECONDS)
    return list(names)


def _store(path: Path, names: list[str]) -> None:
    """Write the cache file and delete those that are out of date."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in path.parent.glob("*.json"):
        if time.time() - other.stat().st_mtime > _CACHE_SECONDS:
            other.unlink(missing_ok=True)
    write_atomic(path, json.dumps(names), mode=0o600, durable=False)


def _cache_path(subject: str, given: dict[str, object]) -> Path:
    """Return the cache file of a subject for this server, user and project; the name contains no secret."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("WINDLASS_")}
    identity = json.dumps([subject, given, environment], sort_keys=True, default=str)
    name = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    return platformdirs.user_cache_path("windlass") / "completion" / f"{name}.json"
