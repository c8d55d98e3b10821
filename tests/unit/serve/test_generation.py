"""The decoding engine on a tiny random Llama: same tokens as the trainer's evaluation, concurrency, cancellation."""

import queue
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serve.tiny_artifacts import CONTEXT, seal

from windlass.domain.errors import BusyError, ContextLengthError, InvalidError
from windlass.domain.specs import Task
from windlass_pipelines.prompts import PromptTokenizer
from windlass_pipelines.serve import generation as module
from windlass_pipelines.serve.artifact import load_verified_metadata
from windlass_pipelines.serve.generation import Delta, Engine, SamplingParams, sample_token
from windlass_pipelines.serve.loading import LoadedModel, end_tokens, load
from windlass_pipelines.serve.templates import render
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.tasks.conversations import ConversationEncoder
from windlass_pipelines.train.tasks.generation import generate

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def loaded(chat_folder: Path) -> LoadedModel:
    return load(chat_folder, load_verified_metadata(chat_folder, seal(chat_folder), Task.CHAT), threads=1)


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    new_engine = Engine(loaded.model, decoder(loaded), (), slots=2, max_queued=1)
    yield new_engine
    new_engine.close()


def decoder(loaded: LoadedModel) -> Callable[[Sequence[int]], str]:
    return lambda ids: str(loaded.tokenizer.decode(ids, skip_special_tokens=True))


def finish(engine: Engine, prompt: Sequence[int], sampling: SamplingParams) -> tuple[str, Delta, list[int]]:
    arrived: queue.Queue[Delta] = queue.Queue()
    generation = engine.submit(prompt, sampling, arrived.put)
    text = ""
    while True:
        delta = arrived.get(timeout=30)
        text += delta.text
        if delta.finish or delta.error:
            return text, delta, generation.tokens


def greedy(max_tokens: int, **changes: object) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0, **changes)  # type: ignore[arg-type]  # test shorthand


@pytest.mark.parametrize("chunk_size", [3, 512])
def test_greedy_tokens_equal_those_of_the_trainer_evaluation(
    loaded: LoadedModel, engine: Engine, chunk_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREFILL_TOKENS", chunk_size)
    prompt = render(PromptTokenizer(loaded.tokenizer), HELLO, CONTEXT)
    dist = DistributedContext(rank=0, world_size=1, device=torch.device("cpu"))
    (expected,) = generate(loaded.model, [prompt], dist, max_new_tokens=24, eos_token_ids=frozenset(), pad_token_id=0)
    assert finish(engine, prompt, greedy(24))[2] == expected


def test_prompt_and_end_tokens_equal_those_of_training(loaded: LoadedModel) -> None:
    conversations = ConversationEncoder(loaded.tokenizer)
    assert render(PromptTokenizer(loaded.tokenizer), HELLO, CONTEXT) == conversations.encode_prompt(HELLO)
    assert conversations.eos_token_ids <= end_tokens(loaded.tokenizer, None)


def test_an_end_token_ends_the_answer_and_is_not_returned(loaded: LoadedModel) -> None:
    prompt = render(PromptTokenizer(loaded.tokenizer), HELLO, CONTEXT)
    free = Engine(loaded.model, decoder(loaded), (), slots=1, max_queued=0)
    tokens = finish(free, prompt, greedy(12))[2]
    free.close()
    last = next(token for token in tokens[3:] if token not in tokens[:3])
    stopping = Engine(loaded.model, decoder(loaded), [last], slots=1, max_queued=0)
    text, delta, answer_tokens = finish(stopping, prompt, greedy(12))
    stopping.close()
    assert answer_tokens == tokens[: tokens.index(last)]
    assert text == loaded.tokenizer.decode(answer_tokens, skip_special_tokens=True)
    assert (delta.finish, delta.tokens) == ("stop", len(answer_tokens) + 1)


def test_a_stop_sequence_ends_the_answer_and_is_not_returned(loaded: LoadedModel, engine: Engine) -> None:
    prompt = render(PromptTokenizer(loaded.tokenizer), HELLO, CONTEXT)
    full_text, last, _ = finish(engine, prompt, greedy(24))
    assert last.finish == "length"
    stop = full_text[5:8]
    text, delta, _ = finish(engine, prompt, greedy(24, stops=(stop,)))
    assert text == full_text[: full_text.index(stop)]
    assert delta.finish == "stop"


def test_the_same_seed_reproduces_an_answer(engine: Engine) -> None:
    def sample(seed: int) -> list[int]:
        return finish(engine, [5, 6, 7], SamplingParams(max_tokens=20, temperature=1.5, seed=seed))[2]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_concurrent_generations_do_not_affect_each_other(loaded: LoadedModel, engine: Engine) -> None:
    alone = [finish(engine, [5, 6, n], greedy(16))[2] for n in (7, 8)]
    arrived: queue.Queue[Delta] = queue.Queue()
    together = [engine.submit([5, 6, n], greedy(16), arrived.put) for n in (7, 8)]
    finished = 0
    while finished < 2:
        finished += arrived.get(timeout=30).finish is not None
    assert [generation.tokens for generation in together] == alone


class _Gate:
    """A listener that blocks the decoding thread until ``opened`` is set."""

    def __init__(self) -> None:
        self.entered, self.opened, self.deltas = Event(), Event(), queue.Queue[Delta]()

    def __call__(self, delta: Delta) -> None:
        self.deltas.put(delta)
        self.entered.set()
        assert self.opened.wait(30)


def test_a_full_queue_rejects_requests_until_one_is_cancelled(engine: Engine) -> None:
    gate = _Gate()
    first = engine.submit([5], greedy(200), gate)
    assert gate.entered.wait(30)
    quiet: queue.Queue[Delta] = queue.Queue()
    others = [engine.submit([6], greedy(200), quiet.put) for _ in range(2)]
    with pytest.raises(BusyError):
        engine.submit([7], greedy(1), quiet.put)
    for generation in [first, *others]:
        generation.cancel()
    gate.opened.set()
    answered: queue.Queue[Delta] = queue.Queue()
    while engine.ongoing:
        pass
    engine.submit([7], greedy(1), answered.put)
    assert answered.get(timeout=30).finish == "length"
    assert len(first.tokens) < 200


def test_a_failed_generation_is_reported_and_does_not_affect_others(engine: Engine) -> None:
    text, delta, _ = finish(engine, [10**6], greedy(4))
    assert text == ""
    assert delta.error is not None
    assert finish(engine, [5], greedy(4))[1].finish == "length"
    assert engine.alive


logits = st.lists(st.floats(-20, 20), min_size=2, max_size=12)


@given(logits, st.floats(0.05, 1), st.floats(0.1, 2), st.integers(0, 2**32))
def test_the_sampled_token_is_in_the_nucleus(values: list[float], top_p: float, temperature: float, seed: int) -> None:
    scores = torch.tensor(values)
    random = torch.Generator().manual_seed(seed)
    token = sample_token(scores, SamplingParams(1, temperature, top_p), random)
    probabilities = torch.softmax(scores / temperature, dim=-1)
    likelier = probabilities[probabilities > probabilities[token]].sum()
    assert likelier < top_p + 1e-5


def test_sampling_follows_the_probabilities() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[sample_token(scores, SamplingParams(1, 1.0, 0.75), random)] += 1
    # 0.75 is reached by the first two, whose shares of it are 5/8 and 3/8.
    assert counts[2] == 0
    assert counts[0] / 4000 == pytest.approx(5 / 8, abs=0.03)


def test_a_prompt_that_fills_the_context_is_rejected(loaded: LoadedModel) -> None:
    with pytest.raises(ContextLengthError, match="context is 256 tokens"):
        render(PromptTokenizer(loaded.tokenizer), [{"role": "user", "content": "x" * 300}], CONTEXT)
    with pytest.raises(ContextLengthError, match="characters"):
        render(PromptTokenizer(loaded.tokenizer), [{"role": "user", "content": "x" * 300_000}], CONTEXT)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "did not finish within"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 'x' * (9000000000 * messages|length) }}", "too much memory"),
        ("{% if false %}{{ 'x' * 9000000000 }}{% endif %}{{ raise_exception('compiled') }}", "compiled"),
    ],
)
def test_a_malicious_template_is_rejected(
    loaded: LoadedModel, template: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.tokenizer, "chat_template", template)
    with pytest.raises(InvalidError, match=problem):
        render(PromptTokenizer(loaded.tokenizer), HELLO, CONTEXT, seconds=0.3)


def test_cancelled_generations_leave_their_places_in_the_queue_at_once(loaded: LoadedModel) -> None:
    gate = Event()
    engine = Engine(loaded.model, decoder(loaded), (), slots=1, max_queued=2)
    try:
        busy = engine.submit([5], greedy(CONTEXT // 2), lambda _delta: gate.wait(20))
        for _ in range(20):  # clients that time out and retry
            for abandoned in [engine.submit([5], greedy(4), lambda _delta: None) for _ in range(2)]:
                abandoned.cancel()
        assert engine.ongoing == 1
        arrived: queue.Queue[Delta] = queue.Queue()
        engine.submit([5], greedy(4), arrived.put)
        busy.cancel()
        gate.set()
        assert arrived.get(timeout=20).error is None
    finally:
        gate.set()
        engine.close()
