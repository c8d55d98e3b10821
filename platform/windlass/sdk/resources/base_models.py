"""The catalogue of models that jobs may start from."""

from windlass.sdk._bind import AsyncResource, Resource, async_call, async_listing, call, listing
from windlass.sdk._core import Flow, Listing, Scope, built, delete, get, listed, path, poll, post
from windlass.wire.jobs import BaseModelIn, BaseModelOut


def list_base_models(scope: Scope) -> Listing[BaseModelOut]:
    """Iterate over the catalogue."""
    del scope
    return listed(path("base-models"), BaseModelOut)


def get_base_model(scope: Scope, name: str) -> Flow[BaseModelOut]:
    """Read one."""
    del scope
    return get(path("base-models", name), BaseModelOut)


def add_base_model(
    scope: Scope, name: str, folder: str, *, licence: str = "unknown", source: str = ""
) -> Flow[BaseModelOut]:
    """Import a model from a folder on the server's disk; only safetensors and GGUF weights are taken."""
    del scope
    body = built(BaseModelIn, name=name, path=folder, licence=licence, source=source)
    return post(path("base-models"), BaseModelOut, body)


def delete_base_model(scope: Scope, name: str, *, if_match: int | None = None) -> Flow[None]:
    """Take a model out of the catalogue."""
    del scope
    return delete(path("base-models", name), if_match)


def wait_base_model(scope: Scope, name: str, *, timeout: float | None = None) -> Flow[BaseModelOut]:
    """Wait until an import has ended, well or badly: see ``state`` and ``problem``.

    Raises:
        WaitTimeoutError: after ``timeout`` seconds; the import goes on.
    """
    return poll(
        lambda: get_base_model(scope, name),
        lambda model: model.state != "importing",
        timeout,
        f"the import of base model {name}",
    )


class BaseModels(Resource):
    """The catalogue of base models."""

    list = listing(list_base_models)
    get = call(get_base_model)
    add = call(add_base_model)
    wait = call(wait_base_model)
    delete = call(delete_base_model)


class AsyncBaseModels(AsyncResource):
    """The catalogue of base models."""

    list = async_listing(list_base_models)
    get = async_call(get_base_model)
    add = async_call(add_base_model)
    wait = async_call(wait_base_model)
    delete = async_call(delete_base_model)
