"""What Serve runs: one replica of one application, of the task that its ``ServedApp`` names."""

import importlib
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from windlass.domain.endpoints import ServedApp
from windlass.domain.specs import Task
from windlass_pipelines.serve.artifact import admit

_APPLICATIONS = {
    Task.TEXT_CLASSIFICATION: ("windlass_pipelines.serve.classification", "TextClassification"),
    Task.CHAT: ("windlass_pipelines.serve.chat", "Chat"),
}


class Replica:
    """Holds the task's application and passes requests to it."""

    def __init__(self, app_json: str, threads: int, hosts: Sequence[str]) -> None:
        """Load the model.

        Args:
            app_json: a ``ServedApp``.
            threads: CPU threads for the model.
            hosts: names under which the server may be addressed; none allows all.

        Raises:
            ModelLoadError: the artifact cannot be served; the message is one line.
        """
        app = ServedApp.model_validate_json(app_json)
        card = admit(app.artifact, app.digest, app.task)
        module, name = _APPLICATIONS[app.task]
        # Imported here and not above: the host process imports this module to deploy it, and never needs torch; nor
        # does a replica whose artifact is refused.
        self._application = getattr(importlib.import_module(module), name)(app, card, threads, tuple(hosts))

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        response: Response = await self._application(request)
        return response

    def check_health(self) -> None:
        """Called by Serve now and then; an error has the replica replaced."""
        self._application.check_health()
