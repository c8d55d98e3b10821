"""Steps of both parts: start the server, add base models, upload and clean data, train, serve."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from windlass.cli import local_server
from windlass.cli.dataset_report import show_report
from windlass.cli.demo.console import DemoConsole, DemoError
from windlass.cli.job_views import evaluation_text
from windlass.cli.render import reason_text
from windlass.cli.session import Session
from windlass.cli.watch import follow
from windlass.domain.datasets import VersionState
from windlass.domain.endpoints import EndpointState
from windlass.domain.errors import NotFoundError
from windlass.domain.ingest import IngestOptions
from windlass.domain.jobs import JobState
from windlass.domain.specs import Task
from windlass.examples import fetch
from windlass.kit.numbers import size
from windlass.sdk import Client
from windlass.sdk.connection import default_home
from windlass.wire.datasets import DatasetVersionOut
from windlass.wire.models import EndpointOut, ModelVersionOut

_PORT_TAKEN = 7
_WAIT_SECONDS = 600.0


def server_client(console: DemoConsole) -> Client:
    """Return a client of this data directory's server; start the server if it is not running."""
    home = default_home()
    server = local_server.read(home)
    if server is None:
        up = [sys.executable, "-m", "windlass.cli", "up", "--detach", "--home", str(home), "--output", "name"]
        result = subprocess.run(up, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if result.returncode == _PORT_TAKEN:
            result = subprocess.run(
                [*up, "--port", "0"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        server = local_server.read(home)
        if result.returncode or server is None:
            raise DemoError(f"the server did not start\n{result.stderr}")
        console.message(f"started at {server.url}, data in {home}")
    else:
        console.message(f"already running at {server.url}, data in {home}")
    # Not from the environment, which may name another server.
    return Client(url=server.url, key=server.key_file.read_text("utf-8").strip(), project="default")


def cache() -> Path:
    """Return the folder of downloaded packages."""
    return platformdirs.user_cache_path("windlass") / "examples"


def fetch_example_files(console: DemoConsole, name: str) -> tuple[Path, ...]:
    """Download an example and return its files."""
    example = fetch(name, default_home() / "examples" / name, cache(), console.message)
    return example.files


def ensure_base_model(console: DemoConsole, client: Client, name: str) -> None:
    """Add a base model to the catalogue unless it exists."""
    try:
        model = client.base_models.get(name)
    except NotFoundError:
        model = None
    if model is None or model.state == "failed":
        files = fetch_example_files(console, name)
        folder = files[0].parent
        client.base_models.add(name, str(folder), licence="Apache-2.0", source=f"windlass examples: {name}")
        model = client.base_models.wait(name, timeout=_WAIT_SECONDS)
    elif model.state == "importing":
        model = client.base_models.wait(name, timeout=_WAIT_SECONDS)
    if model.state != "ready":
        raise DemoError(f"base model {name} is {model.state}: {model.problem}")
    millions = f"{model.parameters / 1e6:.1f} M parameters, " if model.parameters else ""
    console.message(f"base model {name}: {millions}{size(model.bytes)}, {model.licence}")


def upload(
    console: DemoConsole, session: Session, name: str, task: Task, files: Sequence[Path], options: IngestOptions
) -> DatasetVersionOut:
    """Upload files as a new version of the dataset and print the validation report."""
    client = session.client
    created = client.datasets.upload(name, list(files), task=task, options=options)
    version = client.datasets.wait(created.ref, timeout=_WAIT_SECONDS)
    if version.state is VersionState.FAILED:
        raise DemoError(f"{version.ref} could not be processed: {version.problem}")
    show_report(session.out, client.datasets.report(version.ref))
    if version.state is not VersionState.READY:
        raise DemoError(f"{version.ref} is {version.state}: {version.problem}")
    console.message(f"{version.ref} is ready")
    return version


def clean(
    console: DemoConsole, client: Client, version: DatasetVersionOut, steps: Sequence[Mapping[str, Any]]
) -> DatasetVersionOut:
    """Create the cleaned version and print the row counts of each step."""
    created = client.datasets.clean(version.ref, steps)
    cleaned = client.datasets.wait(created.ref, timeout=_WAIT_SECONDS)
    if cleaned.state is not VersionState.READY:
        raise DemoError(f"{cleaned.ref} is {cleaned.state}: {cleaned.problem}")
    for step in client.datasets.report(cleaned.ref).report.steps:
        console.message(f"{step.get('op')}: {step.get('rows_in')} rows in, {step.get('rows_out')} out")
    rows = ", ".join(f"{count} {split}" for split, count in cleaned.rows.items())
    console.message(f"{cleaned.ref}: {rows}")
    return cleaned


def train(console: DemoConsole, session: Session, spec: Mapping[str, Any]) -> ModelVersionOut:
    """Submit a job, follow it until it ends, and return the registered candidate."""
    client = session.client
    job = client.jobs.create({**spec, "resources": _resources(client)})
    console.message(f"job {job.id}")
    ended = follow(session, job.id, timeout=None)
    if ended.state is not JobState.SUCCEEDED or ended.model_version is None:
        reason = reason_text(ended.reason) or "no reason given"
        raise DemoError(f"job {job.id} {ended.state}: {reason}\n  log: windlass job logs {job.id}")
    version = client.models.version(f"{ended.model}@{ended.model_version}")
    console.message(f"evaluation: {evaluation_text(version.evaluation)}")
    if version.decision != "candidate":
        reason = reason_text(version.reason) or "a gate was not met"
        raise DemoError(f"{version.model}@{version.number} is {version.decision}: {reason}")
    console.message(f"registered as {version.model}@{version.number}, {size(version.bytes)}")
    return version


def _resources(client: Client) -> dict[str, Any]:
    """Return one GPU of the first pool in which the project has quota.

    On one machine without a GPU the job uses all CPU slots and thus all cores.
    """
    pools = {pool.name: pool for pool in client.pools.list()}
    if "local" in pools:
        return {"gpus_per_worker": 1 if pools["local"].gpu_type else pools["local"].capacity}
    pool = next((quota.pool for quota in client.quotas.list() if quota.nominal), None)
    if pool is None:
        raise DemoError(f"project {client.connection.project} has no quota in any pool")
    return {"pool": pool, "gpus_per_worker": 1}


def serve(console: DemoConsole, client: Client, name: str, version: ModelVersionOut) -> EndpointOut:
    """Create or update an endpoint with a version and wait until it serves that version."""
    spec = {"traffic": [{"model": version.model, "version": version.number, "weight": 100}]}
    try:
        client.endpoints.get(name)
    except NotFoundError:
        client.endpoints.create(name, spec)
    else:
        client.endpoints.update(name, spec)
    endpoint = client.endpoints.wait(name, timeout=_WAIT_SECONDS)
    live = [(target.model, target.number) for target in endpoint.live]
    if endpoint.state is not EndpointState.READY or live != [(version.model, version.number)]:
        reason = reason_text(endpoint.reason) or f"it serves {live}"
        raise DemoError(f"endpoint {name} is {endpoint.state}: {reason}")
    console.message(f"{version.model}@{version.number} is served at {client.connection.url}{endpoint.predict_url}")
    return endpoint
