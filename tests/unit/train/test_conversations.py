"""Token ids and targets of a conversation: the targets are the assistant's messages and their end-of-turn tokens."""

import pytest
from tests.factories.tiny_models import tiny_chat_tokenizer

from windlass_pipelines.train.result import TrainingError
from windlass_pipelines.train.tasks.conversations import ConversationEncoder

TWO_TURNS = [
    {"role": "system", "content": "be fine"},
    {"role": "user", "content": "is it good?"},
    {"role": "assistant", "content": "very good"},
    {"role": "user", "content": "and the price?"},
    {"role": "assistant", "content": "the price is poor"},
]


def test_the_targets_are_the_answers_and_their_end_tokens() -> None:
    tokenizer = tiny_chat_tokenizer()
    example = ConversationEncoder(tokenizer).encode(TWO_TURNS)
    learned = tokenizer.decode(
        [token for token, target in zip(example.ids, example.targets, strict=True) if target >= 0]
    )
    assert learned == "very good<|im_end|>the price is poor<|im_end|>"
    assert all(t in (-100, i) for i, t in zip(example.ids.tolist(), example.targets.tolist(), strict=True))


def test_an_answer_of_weight_0_is_context_and_not_a_target() -> None:
    tokenizer = tiny_chat_tokenizer()
    conversations = ConversationEncoder(tokenizer)
    masked = [{**message, "weight": 0} if message["content"] == "very good" else message for message in TWO_TURNS]
    example = conversations.encode(masked)
    assert example.ids.tolist() == conversations.encode(TWO_TURNS).ids.tolist()
    learned = [token for token, target in zip(example.ids, example.targets, strict=True) if target >= 0]
    assert tokenizer.decode(learned) == "the price is poor<|im_end|>"


def test_the_ids_are_the_rendered_template_up_to_the_last_answer() -> None:
    tokenizer = tiny_chat_tokenizer()
    example = ConversationEncoder(tokenizer).encode(TWO_TURNS)
    assert tokenizer.decode(example.ids) == tokenizer.apply_chat_template(TWO_TURNS, tokenize=False)


def test_the_ids_before_an_answer_equal_the_generation_prompt() -> None:
    conversations = ConversationEncoder(tiny_chat_tokenizer())
    example = conversations.encode(TWO_TURNS[:3])
    prompt = conversations.encode_prompt(TWO_TURNS[:2])
    assert example.ids[: len(prompt)].tolist() == prompt
    assert (example.targets[: len(prompt)] == -100).all()
    assert example.targets[len(prompt)] >= 0


def test_an_answer_that_begins_with_a_line_break_does_not_change_the_prompt() -> None:
    conversations = ConversationEncoder(tiny_chat_tokenizer())
    prompt = conversations.encode_prompt(TWO_TURNS[:2])
    example = conversations.encode([*TWO_TURNS[:2], {"role": "assistant", "content": "\n\nfine"}])
    assert example.ids[: len(prompt)].tolist() == prompt


def test_a_user_turn_after_the_last_answer_is_dropped() -> None:
    conversations = ConversationEncoder(tiny_chat_tokenizer())
    longer = [*TWO_TURNS[:3], {"role": "user", "content": "not learned"}]
    assert conversations.encode(longer).ids.tolist() == conversations.encode(TWO_TURNS[:3]).ids.tolist()


def test_a_template_without_an_end_token_gets_the_eos_token() -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    example = ConversationEncoder(tokenizer).encode(TWO_TURNS[:3])
    assert example.targets[-1] == tokenizer.eos_token_id


def test_a_template_that_rewrites_earlier_turns_is_rejected() -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}" + tokenizer.chat_template
    with pytest.raises(TrainingError) as error_info:
        ConversationEncoder(tokenizer)
    assert error_info.value.code == "template_not_incremental"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append('x') }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_malicious_template_is_rejected_by_the_sandbox(template: str) -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(TrainingError):
        ConversationEncoder(tokenizer)


def test_a_tokenizer_without_a_template_is_rejected() -> None:
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(TrainingError) as error_info:
        ConversationEncoder(tokenizer)
    assert error_info.value.code == "no_chat_template"
