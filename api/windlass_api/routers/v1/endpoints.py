"""Routes of endpoints, and the streaming proxy to what they serve."""

import random
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

import httpx2
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from windlass.domain.endpoints import AppState, Endpoint, LiveTarget
from windlass.domain.errors import BusyError, EndpointNotReadyError, FieldProblem, InvalidError, UpstreamError
from windlass.domain.projects import Permission
from windlass.domain.specs import Task
from windlass.services.endpoints import Endpoints
from windlass.wire.base import Page, Problem
from windlass.wire.models import EndpointIn, EndpointOut, EndpointPatch, PredictIn, PredictOut
from windlass_api.dependencies import CursorText, IfMatch, Limit, Visit, inside
from windlass_api.mapping import endpoint_out
from windlass_api.paging import paged

router = APIRouter(prefix="/v1/projects/{project}/endpoints", tags=["endpoints"])

Read = Annotated[Visit, inside(Permission.ENDPOINTS_READ)]
Write = Annotated[Visit, inside(Permission.ENDPOINTS_WRITE)]
Predict = Annotated[Visit, inside(Permission.ENDPOINTS_PREDICT)]


@router.post("", status_code=202, operation_id="createEndpoint")
def create_endpoint(project: str, body: EndpointIn, response: Response, visit: Write) -> EndpointOut:
    """Wish an endpoint; it answers once its versions were loaded and smoke-tested."""
    visit.wiring.require_backends()
    made = visit.use(Endpoints).create(body.name, body.spec)
    response.headers["Location"] = f"/v1/projects/{project}/endpoints/{made.name}"
    return endpoint_out(project, made, response)


@router.get("", operation_id="listEndpoints")
def list_endpoints(project: str, visit: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[EndpointOut]:
    """List endpoints, newest first."""
    return paged(visit.use(Endpoints).page, limit, cursor, lambda one: one.id, lambda one: endpoint_out(project, one))


@router.get("/{endpoint}", operation_id="getEndpoint")
def get_endpoint(project: str, endpoint: str, response: Response, visit: Read) -> EndpointOut:
    """Show an endpoint."""
    return endpoint_out(project, visit.use(Endpoints).get(endpoint), response)


@router.patch("/{endpoint}", status_code=202, operation_id="updateEndpoint")
def update_endpoint(
    project: str, endpoint: str, body: EndpointPatch, response: Response, version: IfMatch, visit: Write
) -> EndpointOut:
    """Wish another spec: what is live answers until the new one is healthy; a failure leaves it in place."""
    return endpoint_out(project, visit.use(Endpoints).update(endpoint, version, body.spec), response)


@router.delete("/{endpoint}", status_code=202, operation_id="deleteEndpoint")
def delete_endpoint(project: str, endpoint: str, response: Response, version: IfMatch, visit: Write) -> EndpointOut:
    """Wish an endpoint away; it is gone when its processes are."""
    return endpoint_out(project, visit.use(Endpoints).delete(endpoint, version), response)


@router.post("/{endpoint}:predict", operation_id="predict")
async def predict(project: str, endpoint: str, body: PredictIn, request: Request, visit: Predict) -> PredictOut:
    """Classify texts, one or many."""
    target, url = await run_in_threadpool(_choose, visit, endpoint, Task.TEXT_CLASSIFICATION)
    reply = await _send(request, f"{url}/predict", body.model_dump_json(exclude_none=True).encode(), stream=False)
    try:
        answer = reply.json()
        _raise_for(reply, answer)
        return PredictOut(predictions=answer["predictions"], model=target.model, number=target.number)
    except (ValueError, KeyError) as error:
        raise UpstreamError("the model server answered in an unknown form") from error


@router.post(
    "/{endpoint}/chat/completions",
    operation_id="createChatCompletion",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["messages"],
                        "properties": {
                            "model": {"type": "string"},
                            "messages": {"type": "array", "items": {"type": "object"}},
                            "stream": {"type": "boolean"},
                            "temperature": {"type": "number"},
                            "max_tokens": {"type": "integer", "minimum": 1, "maximum": 4096},
                        },
                    }
                }
            },
        }
    },
)
async def chat(project: str, endpoint: str, request: Request, visit: Predict) -> Response:
    """Answer a conversation in the shapes of OpenAI's chat completions; streams with ``"stream": true``."""
    _, url = await run_in_threadpool(_choose, visit, endpoint, Task.CHAT)
    reply = await _send(request, f"{url}/chat/completions", await request.body(), stream=True)
    kind = reply.headers.get("content-type", "application/json")
    if "text/event-stream" not in kind:
        content = await reply.aread()
        await reply.aclose()
        return Response(content, reply.status_code, media_type=kind)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_relay(reply), reply.status_code, headers, media_type=kind)


async def _relay(reply: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.aiter_bytes():
            yield chunk
    finally:
        await reply.aclose()


def _choose(visit: Visit, name: str, task: Task) -> tuple[LiveTarget, str]:
    """Return a live target, drawn by weight, and the URL of its application.

    Raises:
        InvalidError: the endpoint does another task.
        EndpointNotReadyError: nothing answers there now; says why.
    """
    endpoint = visit.use(Endpoints).get(name)
    if endpoint.task is not task:
        raise InvalidError(
            f"endpoint {name} does {endpoint.task}, not {task}",
            hint=f"POST to {endpoint_out('', endpoint).predict_url}",
        )
    live = [target for target in endpoint.live if target.weight > 0]
    if not live:
        raise _not_ready(endpoint)
    target = random.choices(live, weights=[one.weight for one in live])[0]  # noqa: S311 - traffic, not a secret
    if visit.wiring.serving is None:
        raise _not_ready(endpoint)
    status = visit.wiring.serving.status()
    ready = {app.key for app in status.apps if app.state is AppState.READY}
    if target.app not in ready or not status.base_url:
        raise _not_ready(endpoint)
    return target, f"{status.base_url}/{target.app}"


def _not_ready(endpoint: Endpoint) -> EndpointNotReadyError:
    why = f": {endpoint.reason.message}" if endpoint.reason else ""
    hints = {"stopped": "wake it by setting spec.stopped to false", "failed": "see its reason, then change its spec"}
    return EndpointNotReadyError(
        f"endpoint {endpoint.name} is {endpoint.state}{why}",
        hint=hints.get(endpoint.state.value, "try again in a few seconds"),
        facts={"state": endpoint.state.value},
    )


async def _send(request: Request, url: str, body: bytes, *, stream: bool) -> httpx2.Response:
    client: httpx2.AsyncClient = request.app.state.upstream
    try:
        asked = client.build_request("POST", url, content=body, headers={"Content-Type": "application/json"})
        return await client.send(asked, stream=stream)
    except httpx2.TimeoutException as error:
        raise UpstreamError("the model server did not answer in time") from error
    except httpx2.TransportError as error:
        raise EndpointNotReadyError("the model server cannot be reached", hint="try again in a few seconds") from error


def _raise_for(reply: httpx2.Response, answer: Any) -> None:
    if reply.is_success:
        return
    problem = Problem.model_validate(answer) if "problem+json" in reply.headers.get("content-type", "") else None
    said = problem.detail if problem else ""
    if reply.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise BusyError(said or "the model server is busy", hint="try again in a few seconds")
    if reply.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        raise EndpointNotReadyError(said or "the model server is not ready", hint="try again in a few seconds")
    if reply.is_client_error:
        fields = [FieldProblem(one.pointer, one.detail) for one in problem.errors] if problem else []
        raise InvalidError(said or "the model server refused the input", fields=fields)
    raise UpstreamError(said or f"the model server answered {reply.status_code}")
