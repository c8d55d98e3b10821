"""Text classification over HTTP, with dynamic request batching by Ray Serve."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from windlass.domain.endpoints import ServedApp
from windlass.domain.errors import WindlassError
from windlass_pipelines.serve.artifact import ArtifactMetadata
from windlass_pipelines.serve.classifier import Classifier, PredictRequest, TextScores, prediction
from windlass_pipelines.serve.loading import load
from windlass_pipelines.serve.openai_schema import usage
from windlass_pipelines.serve.web import dispatch, problem_response, read_json


class TextClassificationApp:
    """The served application: ``POST /predict``, ``GET /healthz``."""

    def __init__(
        self, app: ServedApp, folder: Path, metadata: ArtifactMetadata, threads: int, hosts: Sequence[str]
    ) -> None:
        """Load the model of a verified artifact in ``folder``.

        Raises:
            ModelLoadError: see ``windlass_pipelines.serve.loading.load``.
        """
        self._classifier = Classifier(load(folder, metadata, threads))
        self._model_name, self._hosts = app.model_name, hosts
        # One thread: forward passes run one at a time, while the event loop collects the next batch.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._score_batch.set_max_batch_size(app.max_batch_size)
        self._score_batch.set_batch_wait_timeout_s(app.batch_wait_ms / 1000)

    async def __call__(self, request: Request) -> Response:
        """Handle an HTTP request."""
        routes = {("POST", "/predict"): self._predict, ("GET", "/healthz"): self._healthz}
        try:
            return await dispatch(request, routes, self._hosts)
        except WindlassError as error:
            return problem_response(error)

    def check_health(self) -> None:
        """Do nothing: a failed forward pass fails only its request."""

    async def _predict(self, request: Request) -> Response:
        body = await read_json(request, PredictRequest)
        scored: list[TextScores] = await self._score_batch(body.inputs)
        content = {
            "model": self._model_name,
            "predictions": [prediction(self._classifier.labels, item, body.top_k) for item in scored],
            "truncated": [index for index, item in enumerate(scored) if item.truncated],
            "usage": usage(sum(item.tokens for item in scored), 0),
        }
        return JSONResponse(content)

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._model_name})

    @serve.batch  # type: ignore[untyped-decorator]  # Ray ships no types
    async def _score_batch(self, requests: list[list[str]]) -> list[list[TextScores]]:
        texts = [text for inputs in requests for text in inputs]
        scored = iter(await asyncio.get_running_loop().run_in_executor(self._executor, self._classifier.score, texts))
        return [list(islice(scored, len(inputs))) for inputs in requests]
