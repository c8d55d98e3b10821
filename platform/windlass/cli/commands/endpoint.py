"""``windlass endpoint``: serve models."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from windlass.cli import errors
from windlass.cli.deletion import DryRun, Yes, delete
from windlass.cli.name_completion import names_of
from windlass.cli.render import Column, reason_text
from windlass.cli.session import Session, command, command_group
from windlass.cli.specs import load_spec, parse_duration, parse_time
from windlass.domain.endpoints import EndpointState
from windlass.domain.errors import InvalidError
from windlass.wire.models import EndpointOut, TrafficCountsOut, TrafficPointOut

app = command_group("Serve models.")


def _reason(endpoint: EndpointOut) -> str:
    return reason_text(endpoint.reason)


def _live(endpoint: EndpointOut) -> list[str]:
    """Return the versions that answer; none while an endpoint starts or has failed without a replica."""
    if not endpoint.ready_replicas and endpoint.state in {EndpointState.PENDING, EndpointState.FAILED}:
        return []
    return [f"{live.model}@{live.number} {live.weight}%" for live in endpoint.live]


def _replicas_text(endpoint: EndpointOut) -> str:
    """Return the ready replicas, and the desired ones while these are others."""
    ready, desired = endpoint.ready_replicas, endpoint.desired_replicas
    return str(ready) if ready == desired else f"{ready} of {desired}"


_COLUMNS = (
    Column[EndpointOut]("name", lambda endpoint: endpoint.name),
    Column[EndpointOut]("state", lambda endpoint: endpoint.state),
    Column[EndpointOut]("task", lambda endpoint: endpoint.task),
    Column[EndpointOut]("live", _live),
    Column[EndpointOut]("replicas", _replicas_text),
    Column[EndpointOut]("purposes", lambda endpoint: endpoint.purposes, shrinks=True),
    Column[EndpointOut]("erasure pending", lambda endpoint: endpoint.erasure_pending),
    Column[EndpointOut]("age", lambda endpoint: endpoint.created_at),
    Column[EndpointOut]("reason", _reason, shrinks=True, keep=True),
)
_DETAILS = (
    *_COLUMNS,
    Column[EndpointOut]("desired", lambda endpoint: [_target(target) for target in endpoint.spec.traffic]),
    Column[EndpointOut](
        "gpus", lambda endpoint: f"{endpoint.spec.gpus} of {endpoint.spec.pool} each" if endpoint.spec.gpus else "none"
    ),
    Column[EndpointOut](
        "scaling", lambda endpoint: f"{endpoint.spec.replicas.min} to {endpoint.spec.replicas.max} replicas"
    ),
)


def _latency(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds:.0f} ms"


_TRAFFIC_COLUMNS = (
    Column[TrafficPointOut]("from", lambda point: f"{point.at.astimezone():%Y-%m-%d %H:%M}"),
    Column[TrafficPointOut]("requests", lambda point: point.requests),
    Column[TrafficPointOut]("failed", lambda point: point.failed or None),
    Column[TrafficPointOut]("rejected", lambda point: point.rejected or None),
    Column[TrafficPointOut]("cancelled", lambda point: point.cancelled or None),
    Column[TrafficPointOut]("p50", lambda point: _latency(point.p50_milliseconds)),
    Column[TrafficPointOut]("p95", lambda point: _latency(point.p95_milliseconds)),
)

Name = Annotated[str, typer.Argument(autocompletion=names_of("endpoint"))]
Targets = Annotated[
    list[str] | None,
    typer.Argument(
        help="MODEL (its newest version), MODEL@NUMBER or MODEL@ALIAS; several with weights: A@1=90 A@2=10.",
        metavar="[MODEL@VERSION]...",
        autocompletion=names_of("model", versions=True),
    ),
]
File = Annotated[Path | None, typer.Option("--file", "-f", help="File with the endpoint spec; - reads stdin.")]
MinReplicas = Annotated[int | None, typer.Option(min=0, help="Minimum replicas; 0: scale to zero when idle.")]
MaxReplicas = Annotated[int | None, typer.Option(min=1, help="Maximum replicas.")]
Gpus = Annotated[int | None, typer.Option(min=0, max=1, help="GPUs of each replica; 0: CPUs only.")]
Pool = Annotated[
    str | None, typer.Option(help="Pool of the replicas' GPUs.", autocompletion=names_of("pool"), metavar="POOL")
]
Wait = Annotated[bool, typer.Option(help="Wait until the rollout ends.")]
Timeout = Annotated[str | None, typer.Option(help="Maximum waiting time, for example 10m.")]


def _target(target: Any) -> str:
    return f"{target.model}@{target.version or target.alias} {target.weight}%"


def _name(endpoint: EndpointOut) -> str:
    return endpoint.name


@app.command("create")
@command
def create(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    name: Annotated[str, typer.Argument()],
    targets: Targets = None,
    file: File = None,
    min_replicas: MinReplicas = None,
    max_replicas: MaxReplicas = None,
    gpus: Gpus = None,
    pool: Pool = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> None:
    """Serve model versions under a name."""
    spec = _spec(session, {}, targets, file, _Replicas(min_replicas, max_replicas, gpus, pool))
    endpoint = session.client.endpoints.create(name, spec)
    _finish(session, endpoint, wait=wait, timeout=timeout)


@app.command("list")
@command
def list_endpoints(session: Session) -> None:
    """List the endpoints."""
    session.list(session.client.endpoints.list(), _COLUMNS, _name)


@app.command("show")
@command
def show(session: Session, name: Name) -> None:
    """Show the desired and the served state of an endpoint."""
    _show(session, session.client.endpoints.get(name))


@app.command("traffic")
@command
def traffic(
    session: Session,
    name: Name,
    since: Annotated[
        str, typer.Option(help="Of the last time span, for example 90m, or since a time of ISO 8601.")
    ] = "1d",
    until: Annotated[str | None, typer.Option(help="Until a time span ago, or until a time of ISO 8601.")] = None,
    step: Annotated[str | None, typer.Option(help="Time of a line, for example 15m; default: by the time.")] = None,
) -> None:
    """Show requests, errors and latencies of an endpoint over time; times without requests are left out."""
    width = None if step is None else parse_duration(step)
    found = session.client.endpoints.traffic(name, since=parse_time(since), until=parse_time(until), step=width)
    if session.machine:
        session.document(found)
        return
    session.list([point for point in found.points if point.requests], _TRAFFIC_COLUMNS, lambda point: str(point.at))
    session.message(_summary(found.total))


def _summary(total: TrafficCountsOut) -> str:
    parts = [f"{total.requests:,} requests", f"{total.failed:,} failed", f"{total.rejected:,} rejected"]
    if total.p50_milliseconds is not None:
        parts.append(f"p50 {_latency(total.p50_milliseconds)}, p95 {_latency(total.p95_milliseconds)}")
    return ", ".join(parts)


@app.command("update")
@command
def update(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    name: Name,
    targets: Targets = None,
    file: File = None,
    min_replicas: MinReplicas = None,
    max_replicas: MaxReplicas = None,
    gpus: Gpus = None,
    pool: Pool = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop all replicas, keep the endpoint.")] = False,
    start: Annotated[bool, typer.Option("--start", help="Start a stopped endpoint.")] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> None:
    """Change the spec; new versions must pass the smoke test before they replace the old ones."""
    if stop and start:
        raise typer.BadParameter("--stop contradicts --start")
    before = session.client.endpoints.get(name)
    replicas = _Replicas(min_replicas, max_replicas, gpus, pool)
    spec = _spec(session, before.spec.model_dump(mode="json"), targets, file, replicas)
    if stop or start:
        spec["stopped"] = stop
    endpoint = session.client.endpoints.update(name, spec, if_match=before.version)
    _finish(session, endpoint, wait=wait, timeout=timeout)


@app.command("wait")
@command
def wait_endpoint(session: Session, name: Name, timeout: Timeout = None) -> None:
    """Wait until the newest spec is served; exit 1 if the rollout fails."""
    _finish(session, session.client.endpoints.get(name), wait=True, timeout=timeout)


@app.command("delete")
@command
def delete_endpoint(session: Session, name: Name, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Delete an endpoint; its replicas stop, the models stay."""
    endpoints = session.client.endpoints
    delete(session, partial(endpoints.delete, name), yes=yes, dry_run=dry_run)


def _show(session: Session, endpoint: EndpointOut) -> None:
    url = Column[EndpointOut]("url", lambda shown: session.client.connection.url + shown.predict_url)
    session.show(endpoint, (*_DETAILS, url), _name)


@dataclass(frozen=True)
class _Replicas:
    """The options about replicas."""

    least: int | None
    most: int | None
    gpus: int | None
    pool: str | None

    def applied(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Return the spec with the options that were given."""
        replicas = dict(spec.get("replicas") or {})
        if self.least is not None:
            replicas["min"] = self.least
        if self.most is not None or (self.least or 0) > replicas.get("max", 1):
            replicas["max"] = self.most or self.least
        gpus: dict[str, Any] = {} if self.gpus is None else {"gpus": self.gpus}
        if self.gpus == 0:
            gpus["pool"] = None
        elif self.pool is not None:
            gpus = {"gpus": 1, **gpus, "pool": self.pool}
        return {**spec, **({"replicas": replicas} if replicas else {}), **gpus}


def _spec(
    session: Session, base: dict[str, Any], targets: list[str] | None, file: Path | None, replicas: _Replicas
) -> dict[str, Any]:
    spec = {**base, **(load_spec(file) if file else {})}
    if targets:
        spec["traffic"] = _traffic(session, targets)
    if "traffic" not in spec:
        raise InvalidError("no model version to serve", hint="give one, for example sentiment@1 or sentiment@champion")
    return replicas.applied(spec)


def _traffic(session: Session, texts: list[str]) -> list[dict[str, Any]]:
    targets = []
    for text in texts:
        reference, _, weight = text.partition("=")
        model, separator, which = reference.partition("@")
        if not model or (separator and not which) or (weight and not weight.isdigit()):
            raise InvalidError(
                f"{text!r} is not a model version",
                hint="write MODEL (the newest version), MODEL@NUMBER or MODEL@ALIAS; with weights: A@1=90 A@2=10",
            )
        if not separator:
            which = str(session.client.models.version(model).number)
            session.message(f"the newest version of {model} is {model}@{which}")
        target: dict[str, Any] = {"model": model, "version" if which.isdigit() else "alias": which}
        targets.append({**target, "weight": int(weight) if weight else 100 // len(texts)})
    return targets


def _finish(session: Session, endpoint: EndpointOut, *, wait: bool, timeout: str | None) -> None:
    if wait:
        with session.detach_on_interrupt(f"the rollout of {endpoint.name}", f"windlass endpoint wait {endpoint.name}"):
            limit = None if timeout is None else parse_duration(timeout)
            endpoint = session.client.endpoints.wait(endpoint.name, timeout=limit)
    _show(session, endpoint)
    if endpoint.state is EndpointState.FAILED or (
        wait and endpoint.reason is not None and not _serves_desired(endpoint)
    ):
        session.message(f"endpoint {endpoint.name} does not serve the desired versions. {_reason(endpoint)}")
        raise typer.Exit(errors.FAILED)
    if wait and endpoint.state is EndpointState.READY:
        subcommand = "predict" if endpoint.task == "text-classification" else "chat"
        example = session.suggestion(f"windlass {subcommand} {endpoint.name} 'some text'")
        session.message(f"endpoint {endpoint.name} is ready. Try: {example}")


def _serves_desired(endpoint: EndpointOut) -> bool:
    """Return whether the served models are the desired ones."""
    desired = {target.model for target in endpoint.spec.traffic}
    return endpoint.state is EndpointState.READY and desired == {live.model for live in endpoint.live}
