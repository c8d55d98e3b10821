"""Which tokens of a conversation are learned: those that the assistant says and the one that ends its turn."""

import pytest
from tests.factories.tiny_models import tiny_chat_tokenizer

from windlass_pipelines.train.outcome import TrainingError
from windlass_pipelines.train.tasks.conversations import Conversations

TWO_TURNS = [
    {"role": "system", "content": "be fine"},
    {"role": "user", "content": "is it good?"},
    {"role": "assistant", "content": "very good"},
    {"role": "user", "content": "and the price?"},
    {"role": "assistant", "content": "the price is poor"},
]


def test_exactly_the_answers_and_their_end_marks_are_learned() -> None:
    tokenizer = tiny_chat_tokenizer()
    example = Conversations(tokenizer).encode(TWO_TURNS)
    learned = tokenizer.decode(
        [token for token, target in zip(example.ids, example.targets, strict=True) if target >= 0]
    )
    assert learned == "very good<|im_end|>the price is poor<|im_end|>"
    assert all(t in (-100, i) for i, t in zip(example.ids.tolist(), example.targets.tolist(), strict=True))


def test_the_whole_is_the_chat_template_to_the_last_answer() -> None:
    tokenizer = tiny_chat_tokenizer()
    example = Conversations(tokenizer).encode(TWO_TURNS)
    assert tokenizer.decode(example.ids) == tokenizer.apply_chat_template(TWO_TURNS, tokenize=False)


def test_what_is_seen_before_an_answer_is_what_generation_is_given() -> None:
    conversations = Conversations(tiny_chat_tokenizer())
    example = conversations.encode(TWO_TURNS[:3])
    prompt = conversations.prompt(TWO_TURNS[:2])
    assert example.ids[: len(prompt)].tolist() == prompt
    assert (example.targets[: len(prompt)] == -100).all()
    assert example.targets[len(prompt)] >= 0


def test_an_answer_that_begins_with_a_line_break_does_not_change_the_prompt() -> None:
    conversations = Conversations(tiny_chat_tokenizer())
    prompt = conversations.prompt(TWO_TURNS[:2])
    example = conversations.encode([*TWO_TURNS[:2], {"role": "assistant", "content": "\n\nfine"}])
    assert example.ids[: len(prompt)].tolist() == prompt


def test_a_user_turn_after_the_last_answer_is_left_out() -> None:
    conversations = Conversations(tiny_chat_tokenizer())
    longer = [*TWO_TURNS[:3], {"role": "user", "content": "not learned"}]
    assert conversations.encode(longer).ids.tolist() == conversations.encode(TWO_TURNS[:3]).ids.tolist()


def test_a_template_without_end_mark_gets_one() -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    example = Conversations(tokenizer).encode(TWO_TURNS[:3])
    assert example.targets[-1] == tokenizer.eos_token_id


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}" + tokenizer.chat_template
    with pytest.raises(TrainingError) as refused:
        Conversations(tokenizer)
    assert refused.value.code == "template_not_incremental"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append('x') }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_hostile_template_is_refused_by_the_sandbox(template: str) -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(TrainingError):
        Conversations(tokenizer)


def test_a_tokenizer_without_template_is_refused() -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(TrainingError) as refused:
        Conversations(tokenizer)
    assert refused.value.code == "no_chat_template"
