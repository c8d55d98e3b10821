"""What both parts stand on: a running server, base models in its catalogue, data in a dataset, a served version."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from windlass.cli import local_server
from windlass.cli.dataset_report import show_report
from windlass.cli.demo.stage import DemoError, Stage
from windlass.cli.job_pictures import scalars
from windlass.cli.render import reason_text, size
from windlass.cli.session import Session
from windlass.cli.watch import follow
from windlass.domain.datasets import IngestOptions, VersionState
from windlass.domain.endpoints import EndpointState
from windlass.domain.errors import NotFoundError
from windlass.domain.jobs import JobState
from windlass.domain.specs import Task
from windlass.examples import fetch
from windlass.sdk import Client
from windlass.sdk.connection import default_home
from windlass.wire.datasets import DatasetVersionOut
from windlass.wire.models import EndpointOut, ModelVersionOut

_PORT_TAKEN = 7
_WAIT_SECONDS = 600.0


def server_client(stage: Stage) -> Client:
    """Return a client of the server over this data folder, started if none runs."""
    home = default_home()
    server = local_server.read(home)
    if server is None:
        up = [sys.executable, "-m", "windlass.cli", "up", "--detach", "--home", str(home), "--output", "name"]
        done = subprocess.run(up, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode == _PORT_TAKEN:
            done = subprocess.run(
                [*up, "--port", "0"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        server = local_server.read(home)
        if done.returncode or server is None:
            raise DemoError(f"the server did not start\n{done.stderr}")
        stage.say(f"started at {server.url}, data in {home}")
    else:
        stage.say(f"runs already at {server.url}, data in {home}")
    # Address and key of this very folder: what the environment says may be another server.
    return Client(url=server.url, key=server.key_file.read_text("utf-8").strip(), project="default")


def cache() -> Path:
    """Return where downloaded packages are kept."""
    return platformdirs.user_cache_path("windlass") / "examples"


def fetched(stage: Stage, name: str) -> tuple[Path, ...]:
    """Fetch an example and return its files."""
    found = fetch(name, default_home() / "examples" / name, cache(), stage.say)
    return found.files


def ensure_base_model(stage: Stage, client: Client, name: str) -> None:
    """Put a base model into the catalogue unless it is there."""
    try:
        model = client.base_models.get(name)
    except NotFoundError:
        model = None
    if model is None or model.state == "failed":
        files = fetched(stage, name)
        folder = files[0].parent
        client.base_models.add(name, str(folder), licence="Apache-2.0", source=f"windlass examples: {name}")
        model = client.base_models.wait(name, timeout=_WAIT_SECONDS)
    elif model.state == "importing":
        model = client.base_models.wait(name, timeout=_WAIT_SECONDS)
    if model.state != "ready":
        raise DemoError(f"base model {name} is {model.state}: {model.problem}")
    millions = f"{model.parameters / 1e6:.1f} M parameters, " if model.parameters else ""
    stage.say(f"base model {name}: {millions}{size(model.bytes)}, {model.licence}")


def upload(
    stage: Stage, session: Session, name: str, task: Task, files: Sequence[Path], options: IngestOptions
) -> DatasetVersionOut:
    """Upload files as the dataset's next version and show what the validation finds."""
    client = session.client
    begun = client.datasets.upload(name, list(files), task=task, options=options)
    version = client.datasets.wait(begun.ref, timeout=_WAIT_SECONDS)
    if version.state is VersionState.FAILED:
        raise DemoError(f"{version.ref} could not be processed: {version.problem}")
    show_report(session.out, client.datasets.report(version.ref))
    if version.state is not VersionState.READY:
        raise DemoError(f"{version.ref} is {version.state}: {version.problem}")
    stage.say(f"{version.ref} may be used")
    return version


def clean(
    stage: Stage, client: Client, version: DatasetVersionOut, steps: Sequence[Mapping[str, Any]]
) -> DatasetVersionOut:
    """Make the cleaned version and say what each step did."""
    begun = client.datasets.clean(version.ref, steps)
    cleaned = client.datasets.wait(begun.ref, timeout=_WAIT_SECONDS)
    if cleaned.state is not VersionState.READY:
        raise DemoError(f"{cleaned.ref} is {cleaned.state}: {cleaned.problem}")
    for step in client.datasets.report(cleaned.ref).report.steps:
        stage.say(f"{step.get('op')}: {step.get('rows_in')} rows in, {step.get('rows_out')} out")
    rows = ", ".join(f"{count} {split}" for split, count in cleaned.rows.items())
    stage.say(f"{cleaned.ref} holds {rows}")
    return cleaned


def train(stage: Stage, session: Session, spec: Mapping[str, Any]) -> ModelVersionOut:
    """Submit a job, follow it to its end, and return the candidate that it registered."""
    client = session.client
    pool = client.pools.get("local")
    # On a machine without a GPU the job takes every CPU slot, and so every core.
    slots = {"gpus_per_worker": 1 if pool.gpu_type else pool.capacity}
    job = client.jobs.create({**spec, "resources": slots})
    stage.say(f"job {job.id}")
    ended = follow(session, job.id, timeout=None)
    if ended.state is not JobState.SUCCEEDED or ended.model_version is None:
        why = reason_text(ended.reason) or "no reason given"
        raise DemoError(f"job {job.id} {ended.state}: {why}\n  its log: windlass job logs {job.id}")
    version = client.models.version(f"{ended.model}@{ended.model_version}")
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in scalars(version.evaluation).items())
    stage.say(f"judged on held-out rows: {numbers}")
    if version.decision != "candidate":
        reason = reason_text(version.reason) or "a gate was missed"
        raise DemoError(f"{version.model}@{version.number} is {version.decision}: {reason}")
    stage.say(f"registered as {version.model}@{version.number}, {size(version.bytes)}")
    return version


def serve(stage: Stage, client: Client, name: str, version: ModelVersionOut) -> EndpointOut:
    """Serve a version at an endpoint, new or there already, and wait until it is what answers."""
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
        why = reason_text(endpoint.reason) or f"it serves {live}"
        raise DemoError(f"endpoint {name} is {endpoint.state}: {why}")
    stage.say(f"{version.model}@{version.number} answers at {client.connection.url}{endpoint.predict_url}")
    return endpoint
