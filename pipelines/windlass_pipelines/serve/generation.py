"""Chat generation: one thread per replica decodes several requests round-robin, one token each, with KV caches."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import DynamicCache, PreTrainedModel

from windlass.domain.errors import BusyError
from windlass_pipelines.serve.text_stream import Detokenizer, StopScanner

PREFILL_TOKENS = 512
"""Chunk size of the prefill in tokens; between two chunks, the other requests decode."""

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParams:
    """Sampling options: ``temperature`` 0 is greedy decoding; ``seed`` makes the output reproducible."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delta:
    """The output of a decoding step: new text, and at the end the finish reason or the error."""

    text: str = ""
    tokens: int = 0
    """Number of tokens generated so far."""
    finish: FinishReason | None = None
    error: str | None = None


@dataclass(eq=False)
class Generation:
    """A running generation. ``cancel`` may be called from any thread, more than once."""

    prompt: Sequence[int]
    sampling: SamplingParams
    listener: Callable[[Delta], object]
    detokenizer: Detokenizer
    scanner: StopScanner
    random: torch.Generator
    cache: DynamicCache = field(default_factory=DynamicCache)
    read: int = 0
    tokens: list[int] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Release the slot; the listener is not called again."""
        self.cancelled.set()


class Engine:
    """Decodes at most ``slots`` requests round-robin and queues at most ``max_queued`` more."""

    def __init__(
        self,
        model: PreTrainedModel,
        decode: Callable[[Sequence[int]], str],
        end_tokens: Iterable[int],
        *,
        slots: int,
        max_queued: int,
    ) -> None:
        """``model`` is in evaluation mode; ``decode`` converts ids to text; ``end_tokens`` end an answer."""
        self._model = model
        self._decode = decode
        self._end = frozenset(end_tokens)
        self._slots, self._max_queued = slots, max_queued
        self._queue: deque[Generation] = deque()
        self._active: list[Generation] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the decoding thread runs."""
        return self._thread.is_alive()

    @property
    def ongoing(self) -> int:
        """Number of active and queued requests, without cancelled ones."""
        with self._changed:
            return self._count()

    def submit(
        self, prompt: Sequence[int], sampling: SamplingParams, listener: Callable[[Delta], object]
    ) -> Generation:
        """Queue a prompt; ``listener`` is called in the decoding thread and must not block.

        Raises:
            BusyError: all slots are in use and the queue is full.
        """
        random = torch.Generator()
        random.seed() if sampling.seed is None else random.manual_seed(sampling.seed)
        generation = Generation(
            prompt, sampling, listener, Detokenizer(self._decode), StopScanner(sampling.stops), random
        )
        with self._changed:
            if self._count() >= self._slots + self._max_queued:
                raise BusyError(f"{self._slots} answers are being written and {self._max_queued} wait already")
            self._queue.append(generation)
            self._changed.notify()
        return generation

    def _count(self) -> int:
        return sum(not generation.cancelled.is_set() for generation in (*self._queue, *self._active))

    def close(self) -> None:
        """Stop the thread; running generations are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while self._admit():
                for generation in tuple(self._active):
                    if not self._advance(generation):
                        with self._changed:
                            self._active.remove(generation)

    def _admit(self) -> bool:
        """Fill the slots from the queue, waiting while there are no requests; returns False when the engine closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._queue or self._active)
            while self._queue and len(self._active) < self._slots:
                generation = self._queue.popleft()
                if not generation.cancelled.is_set():
                    self._active.append(generation)
            return not self._closed

    def _advance(self, generation: Generation) -> bool:
        """Do one decoding step; returns False when the generation has ended."""
        if generation.cancelled.is_set():
            return False
        try:
            delta = self._step(generation)
        # The failure of one request (out of memory, a token id out of range) must not stop the others.
        except Exception as error:  # noqa: BLE001 - reported to the listener
            generation.listener(Delta(error=f"{type(error).__name__}: {error}", tokens=len(generation.tokens)))
            return False
        if delta.text or delta.finish:
            generation.listener(delta)
        return delta.finish is None

    def _step(self, generation: Generation) -> Delta:
        piece = generation.tokens[-1:] or generation.prompt[generation.read : generation.read + PREFILL_TOKENS]
        logits = self._forward(piece, generation.cache)
        generation.read += 0 if generation.tokens else len(piece)
        if generation.read < len(generation.prompt):
            return Delta()
        token = sample_token(logits, generation.sampling, generation.random)
        count = len(generation.tokens) + 1
        ended, full, text = token in self._end, count >= generation.sampling.max_tokens, ""
        if not ended:
            generation.tokens.append(token)
            text = generation.scanner.add(generation.detokenizer.add(token))
        if ended or full:
            text += generation.scanner.add(generation.detokenizer.flush()) + generation.scanner.flush()
        if ended or generation.scanner.stopped:
            return Delta(text, count, "stop")
        return Delta(text, count, "length" if full else None)

    def _forward(self, piece: Sequence[int], cache: DynamicCache) -> torch.Tensor:
        ids = torch.tensor([list(piece)], device=self._model.device)
        # The model's class is only known at run time; all causal LMs of transformers accept these arguments.
        model: Any = self._model
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = output.logits[0, -1]
        return logits.float().cpu()


def sample_token(logits: torch.Tensor, sampling: SamplingParams, random: torch.Generator) -> int:
    """Sample the next token from logits of shape (vocabulary,).

    Nucleus sampling (Holtzman et al., 2020): from the smallest set of tokens whose probabilities reach ``top_p``.
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        reached_before = ordered.cumsum(-1) - ordered
        probabilities = torch.zeros_like(probabilities).scatter(
            0, order, ordered.where(reached_before < sampling.top_p, 0)
        )
    return int(torch.multinomial(probabilities, 1, generator=random))
