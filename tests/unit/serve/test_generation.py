"""The decoding loop on a tiny random Llama: the tokens of the trainer's evaluation, in turns, until told to stop."""

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
from windlass_pipelines.serve import generation as module
from windlass_pipelines.serve.artifact import admit
from windlass_pipelines.serve.generation import Delta, Engine, Sampling, choose
from windlass_pipelines.serve.loading import LoadedModel, end_tokens, load
from windlass_pipelines.serve.templates import render
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.tasks.conversations import Conversations
from windlass_pipelines.train.tasks.generation import generate

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def loaded(chat_folder: Path) -> LoadedModel:
    return load(chat_folder, admit(chat_folder, seal(chat_folder), Task.CHAT), threads=1)


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    made = Engine(loaded.model, decoder(loaded), (), slots=2, waiting=1)
    yield made
    made.close()


def decoder(loaded: LoadedModel) -> Callable[[Sequence[int]], str]:
    return lambda ids: str(loaded.tokenizer.decode(ids, skip_special_tokens=True))


def finish(engine: Engine, prompt: Sequence[int], sampling: Sampling) -> tuple[str, Delta, list[int]]:
    arrived: queue.Queue[Delta] = queue.Queue()
    running = engine.submit(prompt, sampling, arrived.put)
    text = ""
    while True:
        delta = arrived.get(timeout=30)
        text += delta.text
        if delta.finish or delta.error:
            return text, delta, running.tokens


def greedy(max_tokens: int, **changes: object) -> Sampling:
    return Sampling(max_tokens=max_tokens, temperature=0, **changes)  # type: ignore[arg-type]  # test shorthand


@pytest.mark.parametrize("piece", [3, 512])
def test_greedy_tokens_equal_those_of_the_trainers_evaluation(
    loaded: LoadedModel, engine: Engine, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREFILL_TOKENS", piece)
    prompt = render(loaded.tokenizer, HELLO, CONTEXT)
    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
    (expected,) = generate(loaded.model, [prompt], ranks, limit=24, stop=frozenset(), pad=0)
    assert finish(engine, prompt, greedy(24))[2] == expected


def test_prompt_and_end_tokens_are_those_of_training(loaded: LoadedModel) -> None:
    conversations = Conversations(loaded.tokenizer)
    assert render(loaded.tokenizer, HELLO, CONTEXT) == conversations.prompt(HELLO)
    assert conversations.end_ids <= end_tokens(loaded.tokenizer, None)


def test_an_end_token_ends_the_answer_and_is_not_shown(loaded: LoadedModel) -> None:
    prompt = render(loaded.tokenizer, HELLO, CONTEXT)
    free = Engine(loaded.model, decoder(loaded), (), slots=1, waiting=0)
    tokens = finish(free, prompt, greedy(12))[2]
    free.close()
    last = next(token for token in tokens[3:] if token not in tokens[:3])
    stopping = Engine(loaded.model, decoder(loaded), [last], slots=1, waiting=0)
    text, delta, kept = finish(stopping, prompt, greedy(12))
    stopping.close()
    assert kept == tokens[: tokens.index(last)]
    assert text == loaded.tokenizer.decode(kept, skip_special_tokens=True)
    assert (delta.finish, delta.tokens) == ("stop", len(kept) + 1)


def test_a_stop_sequence_ends_the_answer_before_itself(loaded: LoadedModel, engine: Engine) -> None:
    prompt = render(loaded.tokenizer, HELLO, CONTEXT)
    whole, last, _ = finish(engine, prompt, greedy(24))
    assert last.finish == "length"
    stop = whole[5:8]
    text, delta, _ = finish(engine, prompt, greedy(24, stops=(stop,)))
    assert text == whole[: whole.index(stop)]
    assert delta.finish == "stop"


def test_a_seed_makes_an_answer_repeatable_and_another_seed_another(engine: Engine) -> None:
    def sample(seed: int) -> list[int]:
        return finish(engine, [5, 6, 7], Sampling(max_tokens=20, temperature=1.5, seed=seed))[2]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_answers_in_turns_do_not_disturb_each_other(loaded: LoadedModel, engine: Engine) -> None:
    alone = [finish(engine, [5, 6, n], greedy(16))[2] for n in (7, 8)]
    arrived: queue.Queue[Delta] = queue.Queue()
    together = [engine.submit([5, 6, n], greedy(16), arrived.put) for n in (7, 8)]
    finished = 0
    while finished < 2:
        finished += arrived.get(timeout=30).finish is not None
    assert [running.tokens for running in together] == alone


class _Gate:
    """A listener that holds the decoding thread until opened."""

    def __init__(self) -> None:
        self.entered, self.opened, self.deltas = Event(), Event(), queue.Queue[Delta]()

    def __call__(self, delta: Delta) -> None:
        self.deltas.put(delta)
        self.entered.set()
        assert self.opened.wait(30)


def test_a_full_line_refuses_and_a_cancelled_answer_makes_room(engine: Engine) -> None:
    gate = _Gate()
    first = engine.submit([5], greedy(200), gate)
    assert gate.entered.wait(30)
    quiet: queue.Queue[Delta] = queue.Queue()
    others = [engine.submit([6], greedy(200), quiet.put) for _ in range(2)]
    with pytest.raises(BusyError):
        engine.submit([7], greedy(1), quiet.put)
    for running in [first, *others]:
        running.cancel()
    gate.opened.set()
    answered: queue.Queue[Delta] = queue.Queue()
    while engine.ongoing:
        pass
    engine.submit([7], greedy(1), answered.put)
    assert answered.get(timeout=30).finish == "length"
    assert len(first.tokens) < 200


def test_one_answers_failure_is_told_and_spares_the_others(engine: Engine) -> None:
    text, delta, _ = finish(engine, [10**6], greedy(4))
    assert text == ""
    assert delta.error is not None
    assert finish(engine, [5], greedy(4))[1].finish == "length"
    assert engine.alive


logits = st.lists(st.floats(-20, 20), min_size=2, max_size=12)


@given(logits, st.floats(0.05, 1), st.floats(0.1, 2), st.integers(0, 2**32))
def test_the_chosen_token_is_in_the_nucleus(values: list[float], top_p: float, temperature: float, seed: int) -> None:
    scores = torch.tensor(values)
    random = torch.Generator().manual_seed(seed)
    token = choose(scores, Sampling(1, temperature, top_p), random)
    probabilities = torch.softmax(scores / temperature, dim=-1)
    likelier = probabilities[probabilities > probabilities[token]].sum()
    assert likelier < top_p + 1e-5


def test_sampling_follows_the_probabilities() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[choose(scores, Sampling(1, 1.0, 0.75), random)] += 1
    # 0.75 is reached by the first two, whose shares of it are 5/8 and 3/8.
    assert counts[2] == 0
    assert counts[0] / 4000 == pytest.approx(5 / 8, abs=0.03)


def test_a_prompt_without_room_for_an_answer_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ContextLengthError, match="reads 256 tokens"):
        render(loaded.tokenizer, [{"role": "user", "content": "x" * 300}], CONTEXT)
    with pytest.raises(ContextLengthError, match="characters"):
        render(loaded.tokenizer, [{"role": "user", "content": "x" * 300_000}], CONTEXT)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "did not end within"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
    ],
)
def test_a_hostile_template_gets_nowhere(
    loaded: LoadedModel, template: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.tokenizer, "chat_template", template)
    with pytest.raises(InvalidError, match=problem):
        render(loaded.tokenizer, HELLO, CONTEXT, seconds=0.3)
