"""Chat completions over HTTP, compatible with the OpenAI API, with and without streaming."""

import asyncio
import json
import secrets
import weakref
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from windlass.domain.endpoints import ServedApp
from windlass.domain.errors import UpstreamError, WindlassError
from windlass_pipelines.prompts import PromptTokenizer
from windlass_pipelines.serve.artifact import ArtifactMetadata
from windlass_pipelines.serve.generation import Delta, Engine, Generation, SamplingParams
from windlass_pipelines.serve.limits import MAX_QUEUED, SLOTS
from windlass_pipelines.serve.loading import end_tokens, load
from windlass_pipelines.serve.openai_schema import ChatRequest, CompletionBuilder, error_body, error_response, usage
from windlass_pipelines.serve.templates import render
from windlass_pipelines.serve.web import dispatch, read_json


def sse(content: dict[str, Any]) -> bytes:
    """Return one server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


SSE_DONE = b"data: [DONE]\n\n"


def sse_usage(prompt: int, completion: int) -> bytes:
    """Return a comment with the tokens so far. The API counts them; clients ignore comments."""
    return b": usage %d %d\n\n" % (prompt, completion)


class ChatApp:
    """The served application: ``POST /chat/completions``, ``GET /healthz``."""

    def __init__(
        self, app: ServedApp, folder: Path, metadata: ArtifactMetadata, threads: int, hosts: Sequence[str]
    ) -> None:
        """Load the model of a verified artifact in ``folder``.

        Raises:
            ModelLoadError: see ``windlass_pipelines.serve.loading.load``.
        """
        loaded = load(folder, metadata, threads)
        self._tokenizer, self._context = loaded.tokenizer, loaded.max_length
        self._prompts = PromptTokenizer(loaded.tokenizer)
        self._model_name, self._hosts = app.model_name, hosts
        end = end_tokens(loaded.tokenizer, loaded.model.generation_config.eos_token_id)
        self._engine = Engine(loaded.model, self._decode, end, slots=SLOTS, max_queued=MAX_QUEUED)
        # Rendering and tokenizing long texts would block the event loop for milliseconds.
        self._render_executor = ThreadPoolExecutor(1, thread_name_prefix="render")

    async def __call__(self, request: Request) -> Response:
        """Handle an HTTP request."""
        routes = {("POST", "/chat/completions"): self._complete, ("GET", "/healthz"): self._healthz}
        try:
            return await dispatch(request, routes, self._hosts)
        except WindlassError as error:
            return error_response(error)

    def check_health(self) -> None:
        """Raise when the decoding thread has ended; called by Serve."""
        if not self._engine.alive:
            raise RuntimeError("the decoding thread has ended")

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._model_name, "ongoing": self._engine.ongoing})

    async def _complete(self, request: Request) -> Response:
        body = await read_json(request, ChatRequest)
        messages = [message.for_template() for message in body.messages]
        loop = asyncio.get_running_loop()
        prompt = await loop.run_in_executor(self._render_executor, render, self._prompts, messages, self._context)
        sampling = SamplingParams(
            max_tokens=min(body.max_new_tokens, self._context - len(prompt)),
            temperature=body.temperature,
            top_p=body.top_p,
            seed=body.seed,
            stops=body.stops,
        )
        arrived: asyncio.Queue[Delta] = asyncio.Queue()
        generation = self._engine.submit(
            prompt, sampling, lambda delta: loop.call_soon_threadsafe(arrived.put_nowait, delta)
        )
        answer = CompletionBuilder(f"chatcmpl-{secrets.token_hex(12)}", self._model_name)
        deltas = _deltas(generation, arrived)
        # When the client disconnects before the first event, the generator never starts, and its finally never runs.
        weakref.finalize(deltas, generation.cancel)
        if not body.stream:
            return await _whole(answer, deltas, len(prompt))
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        events = _events(answer, deltas, len(prompt), with_usage=with_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


async def _deltas(generation: Generation, arrived: "asyncio.Queue[Delta]") -> AsyncGenerator[Delta, None]:
    """Yield deltas until the answer ends; cancel the generation when the client disconnects."""
    try:
        while True:
            delta = await arrived.get()
            if delta.error is not None:
                raise UpstreamError(f"the model failed while answering: {delta.error}")
            yield delta
            if delta.finish is not None:
                return
    finally:
        generation.cancel()


async def _whole(answer: CompletionBuilder, deltas: AsyncGenerator[Delta, None], prompt_tokens: int) -> Response:
    text, last = [], Delta()
    async with aclosing(deltas) as stream:
        async for last in stream:
            text.append(last.text)
    return JSONResponse(answer.completion("".join(text), last.finish or "stop", usage(prompt_tokens, last.tokens)))


async def _events(
    answer: CompletionBuilder, deltas: AsyncGenerator[Delta, None], prompt: int, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the server-sent events; ``prompt`` is its length in tokens."""
    try:
        async with aclosing(deltas) as stream:
            yield sse_usage(prompt, 0) + sse(answer.chunk({"role": "assistant", "content": ""}))
            last = Delta()
            async for last in stream:
                if last.text:
                    yield sse_usage(prompt, last.tokens) + sse(answer.chunk({"content": last.text}))
        yield sse_usage(prompt, last.tokens) + sse(answer.chunk({}, last.finish))
        if with_usage:
            yield sse(answer.usage_chunk(usage(prompt, last.tokens)))
    except WindlassError as error:
        yield sse(error_body(error))
    yield SSE_DONE
