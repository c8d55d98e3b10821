"""``windlass endpoint``: serve models."""

from pathlib import Path
from typing import Annotated, Any

import typer

from windlass.cli import failures
from windlass.cli.render import Column, reason_text
from windlass.cli.session import Session, noun, verb
from windlass.cli.specs import load, seconds
from windlass.domain.endpoints import EndpointState
from windlass.domain.errors import InvalidError
from windlass.wire.models import EndpointOut

app = noun("Serve models.")


def _reason(endpoint: EndpointOut) -> str:
    return reason_text(endpoint.reason)


_COLUMNS = (
    Column[EndpointOut]("name", lambda endpoint: endpoint.name),
    Column[EndpointOut]("state", lambda endpoint: endpoint.state),
    Column[EndpointOut]("task", lambda endpoint: endpoint.task),
    Column[EndpointOut](
        "live", lambda endpoint: [f"{live.model}@{live.number} {live.weight}%" for live in endpoint.live]
    ),
    Column[EndpointOut]("replicas", lambda endpoint: endpoint.ready_replicas),
    Column[EndpointOut]("age", lambda endpoint: endpoint.created_at),
    Column[EndpointOut]("reason", _reason),
)
_DETAILS = (
    *_COLUMNS,
    Column[EndpointOut]("wished", lambda endpoint: [_target(target) for target in endpoint.spec.traffic]),
    Column[EndpointOut](
        "scales", lambda endpoint: f"{endpoint.spec.replicas.min} to {endpoint.spec.replicas.max} replicas"
    ),
    Column[EndpointOut]("url", lambda endpoint: endpoint.predict_url),
)

Name = Annotated[str, typer.Argument()]
Targets = Annotated[
    list[str] | None,
    typer.Argument(
        help="MODEL@NUMBER or MODEL@ALIAS; several with weights: A@1=90 A@2=10.", metavar="[MODEL@VERSION]..."
    ),
]
File = Annotated[Path | None, typer.Option("--file", "-f", help="An endpoint spec instead.")]
MinReplicas = Annotated[int | None, typer.Option(min=0, help="0 lets it sleep when nobody asks.")]
MaxReplicas = Annotated[int | None, typer.Option(min=1)]
Wait = Annotated[bool, typer.Option(help="Wait until it answers.")]
Timeout = Annotated[str | None, typer.Option(help="Stop waiting after this long, like 10m.")]


def _target(target: Any) -> str:
    return f"{target.model}@{target.version or target.alias} {target.weight}%"


def _name(endpoint: EndpointOut) -> str:
    return endpoint.name


@app.command("create")
@verb
def create(
    session: Session,
    *,
    name: Name,
    targets: Targets = None,
    file: File = None,
    min_replicas: MinReplicas = None,
    max_replicas: MaxReplicas = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> None:
    """Serve model versions under a name."""
    spec = _spec({}, targets, file, min_replicas, max_replicas)
    endpoint = session.client.endpoints.create(name, spec)
    _finish(session, endpoint, wait=wait, timeout=timeout)


@app.command("list")
@verb
def list_endpoints(session: Session) -> None:
    """List the endpoints."""
    session.list(session.client.endpoints.list(), _COLUMNS, _name)


@app.command("show")
@verb
def show(session: Session, name: Name) -> None:
    """Show an endpoint: what is wished and what answers."""
    session.show(session.client.endpoints.get(name), _DETAILS, _name)


@app.command("update")
@verb
def update(  # noqa: PLR0913 - one parameter per flag
    session: Session,
    *,
    name: Name,
    targets: Targets = None,
    file: File = None,
    min_replicas: MinReplicas = None,
    max_replicas: MaxReplicas = None,
    stop: Annotated[bool, typer.Option("--stop", help="Release every replica, keep the endpoint.")] = False,
    start: Annotated[bool, typer.Option("--start", help="Serve again after --stop.")] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> None:
    """Serve something else: the new versions must answer before the old ones go."""
    if stop and start:
        raise typer.BadParameter("--stop contradicts --start")
    before = session.client.endpoints.get(name)
    spec = _spec(before.spec.model_dump(mode="json"), targets, file, min_replicas, max_replicas)
    if stop or start:
        spec["stopped"] = stop
    endpoint = session.client.endpoints.update(name, spec, if_match=before.version)
    _finish(session, endpoint, wait=wait, timeout=timeout)


@app.command("wait")
@verb
def wait_endpoint(session: Session, name: Name, timeout: Timeout = None) -> None:
    """Wait until the newest spec is served; exit 1 when it failed."""
    _finish(session, session.client.endpoints.get(name), wait=True, timeout=timeout)


@app.command("delete")
@verb
def delete(session: Session, name: Name) -> None:
    """Stop serving and forget the name."""
    session.client.endpoints.delete(name)
    session.say(f"endpoint {name} is being deleted")


def _spec(
    base: dict[str, Any],
    targets: list[str] | None,
    file: Path | None,
    min_replicas: int | None,
    max_replicas: int | None,
) -> dict[str, Any]:
    spec = {**base, **(load(file) if file else {})}
    if targets:
        spec["traffic"] = _traffic(targets)
    if "traffic" not in spec:
        raise InvalidError("nothing to serve", hint="name a model version, like sentiment@1 or sentiment@champion")
    replicas = dict(spec.get("replicas") or {})
    if min_replicas is not None:
        replicas["min"] = min_replicas
    if max_replicas is not None or (min_replicas or 0) > replicas.get("max", 1):
        replicas["max"] = max_replicas or min_replicas
    return {**spec, "replicas": replicas} if replicas else spec


def _traffic(texts: list[str]) -> list[dict[str, Any]]:
    found = []
    for text in texts:
        reference, _, weight = text.partition("=")
        model, separator, which = reference.partition("@")
        if not separator or not which or (weight and not weight.isdigit()):
            raise InvalidError(
                f"{text!r} names no model version", hint="write MODEL@NUMBER or MODEL@ALIAS, with =WEIGHT"
            )
        target: dict[str, Any] = {"model": model, "version" if which.isdigit() else "alias": which}
        found.append({**target, "weight": int(weight) if weight else 100 // len(texts)})
    return found


def _finish(session: Session, endpoint: EndpointOut, *, wait: bool, timeout: str | None) -> None:
    if wait:
        with session.detaching(f"the rollout of {endpoint.name}", f"windlass endpoint wait {endpoint.name}"):
            limit = None if timeout is None else seconds(timeout)
            endpoint = session.client.endpoints.wait(endpoint.name, timeout=limit)
    session.show(endpoint, _DETAILS, _name)
    if endpoint.state is EndpointState.FAILED or (wait and endpoint.reason is not None and not _serves(endpoint)):
        session.say(f"endpoint {endpoint.name} does not serve what was wished. {_reason(endpoint)}")
        raise typer.Exit(failures.FAILED)
    if wait and endpoint.state is EndpointState.READY:
        asking = "predict" if endpoint.task == "text-classification" else "chat"
        session.say(f"endpoint {endpoint.name} is ready. Ask it: windlass {asking} {endpoint.name} 'some text'")


def _serves(endpoint: EndpointOut) -> bool:
    """Whether what answers is what was wished."""
    wished = {target.model for target in endpoint.spec.traffic}
    return endpoint.state is EndpointState.READY and wished == {live.model for live in endpoint.live}
