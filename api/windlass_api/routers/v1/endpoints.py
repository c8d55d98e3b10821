"""Routes of endpoints, and the streaming proxy to the model server."""

from datetime import timedelta
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import AwareDatetime

from windlass.domain.endpoints import Endpoint
from windlass.domain.errors import UpstreamError, WindlassError
from windlass.domain.projects import Permission
from windlass.domain.specs import Task
from windlass.domain.usage import parse_usage
from windlass.services.endpoint_traffic import EndpointTraffic
from windlass.services.endpoints import Endpoints
from windlass.services.erasures import Erasures
from windlass.services.predictions import Predictions
from windlass.wire.base import DeletionOut, Page
from windlass.wire.models import EndpointIn, EndpointOut, EndpointPatch, EndpointTrafficOut, PredictIn, PredictOut
from windlass_api import model_server, routing
from windlass_api.dependencies import IfMatch, RequestContext, require_project
from windlass_api.forwarding import PredictionRequest
from windlass_api.mapping import deletion_out, endpoint_out, endpoint_traffic_out
from windlass_api.paging import paginate
from windlass_api.parameters import CursorText, DryRun, EndpointName, Limit, ProjectName

router = routing.router(prefix="/v1/projects/{project}/endpoints", tags=["endpoints"])

Read = Annotated[RequestContext, require_project(Permission.ENDPOINTS_READ)]
Write = Annotated[RequestContext, require_project(Permission.ENDPOINTS_WRITE)]
Predict = Annotated[RequestContext, require_project(Permission.ENDPOINTS_PREDICT)]
Since = Annotated[AwareDatetime | None, Query(description="start; default: a day before `until`")]
Until = Annotated[AwareDatetime | None, Query(description="end; default: now")]
Step = Annotated[
    int | None,
    Query(ge=60, le=604_800, description="seconds of each point, a multiple of 60; default: by the length of the time"),
]


def _endpoint_out(project: str, ctx: RequestContext, endpoint: Endpoint, response: Response) -> EndpointOut:
    pending = ctx.project_service(Erasures).pending_by_descendant().get(endpoint.id, [])
    purposes = ctx.project_service(Endpoints).purposes(endpoint)
    return endpoint_out(project, endpoint, response, purposes=purposes, erasures=pending)


@router.post("", status_code=202, operation_id="createEndpoint")
def create_endpoint(project: ProjectName, body: EndpointIn, response: Response, ctx: Write) -> EndpointOut:
    """Create an endpoint; it is ready once its model versions are loaded and smoke-tested."""
    created = ctx.project_service(Endpoints).create(body.name, body.spec)
    response.headers["Location"] = f"/v1/projects/{project}/endpoints/{created.name}"
    return _endpoint_out(project, ctx, created, response)


@router.get("", operation_id="listEndpoints")
def list_endpoints(project: ProjectName, ctx: Read, limit: Limit = 50, cursor: CursorText = None) -> Page[EndpointOut]:
    """List endpoints, newest first."""
    endpoints, pending = ctx.project_service(Endpoints), ctx.project_service(Erasures).pending_by_descendant()

    def out(item: Endpoint) -> EndpointOut:
        return endpoint_out(project, item, purposes=endpoints.purposes(item), erasures=pending.get(item.id, []))

    return paginate(endpoints.page, limit, cursor, lambda item: item.id, out)


@router.get("/{endpoint}", operation_id="getEndpoint")
def get_endpoint(project: ProjectName, endpoint: EndpointName, response: Response, ctx: Read) -> EndpointOut:
    """Get an endpoint."""
    return _endpoint_out(project, ctx, ctx.project_service(Endpoints).get(endpoint), response)


@router.get("/{endpoint}/traffic", operation_id="getEndpointTraffic")
def get_endpoint_traffic(
    endpoint: EndpointName, ctx: Read, since: Since = None, until: Until = None, step: Step = None
) -> EndpointTrafficOut:
    """Get the requests to an endpoint over time: outcomes and latencies. Each API replica adds its own every 5 s."""
    width = None if step is None else timedelta(seconds=step)
    return endpoint_traffic_out(ctx.project_service(EndpointTraffic).series(endpoint, since, until, width))


@router.patch("/{endpoint}", status_code=202, operation_id="updateEndpoint")
def update_endpoint(
    project: ProjectName, endpoint: EndpointName, body: EndpointPatch, response: Response, version: IfMatch, ctx: Write
) -> EndpointOut:
    """Update the spec; the live versions serve until the new ones are healthy, and stay if the rollout fails."""
    updated = ctx.project_service(Endpoints).update(endpoint, version, body.spec)
    return _endpoint_out(project, ctx, updated, response)


@router.delete("/{endpoint}", status_code=202, operation_id="deleteEndpoint")
def delete_endpoint(
    project: ProjectName, endpoint: EndpointName, version: IfMatch, ctx: Write, dry_run: DryRun = False
) -> DeletionOut:
    """Delete an endpoint; it disappears once its replicas have stopped."""
    return deletion_out(ctx.project_service(Endpoints).delete(endpoint, version, dry_run=dry_run))


@router.post("/{endpoint}:predict", operation_id="predict")
async def predict(
    project: ProjectName, endpoint: EndpointName, body: PredictIn, request: Request, ctx: Predict
) -> PredictOut:
    """Classify one or more texts."""
    content = body.model_dump_json(exclude_none=True).encode()
    predictions = ctx.project_service(Predictions)
    prediction = PredictionRequest(request, predictions, endpoint, Task.TEXT_CLASSIFICATION, "predict", content)
    forwarded = await ctx.app.forwarder.send(prediction)
    reply, target = forwarded.reply, forwarded.selected.target
    try:
        model_server.raise_for_status(reply)
        answer = {**reply.json(), "model": target.model, "number": target.number}
        out = PredictOut.model_validate(answer)
    except (ValueError, TypeError) as error:
        forwarded.metered.end("failed")
        raise UpstreamError("the model server returned an invalid response") from error
    except WindlassError as error:
        forwarded.metered.fail(error)
        raise
    forwarded.metered.end("succeeded", parse_usage(answer))
    return out


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
async def chat(project: ProjectName, endpoint: EndpointName, request: Request, ctx: Predict) -> Response:
    """Create a chat completion in OpenAI's format; ``"stream": true`` streams it."""
    content = await request.body()
    predictions = ctx.project_service(Predictions)
    prediction = PredictionRequest(request, predictions, endpoint, Task.CHAT, "chat/completions", content)
    forwarded = await ctx.app.forwarder.send(prediction)
    reply, metered = forwarded.reply, forwarded.metered
    if model_server.is_event_stream(reply):
        return model_server.RelayResponse(reply, on_end=metered.end)
    metered.end_with_status(reply.status_code, model_server.reported_usage(reply))
    return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type", "application/json"))
