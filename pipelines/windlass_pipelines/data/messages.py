"""Reads the messages of a conversation: OpenAI's layout (``role``, ``content``) and ShareGPT's (``from``, ``value``).

``developer`` is the newer name of ``system``, as at an endpoint. ``weight: 0`` (OpenAI) and ``train: false`` (Axolotl)
on an answer become ``weight: 0``: the answer is context, and training does not learn it.
"""

from collections.abc import Mapping
from typing import Any

from windlass.dataset_files.findings import pointer_to
from windlass_pipelines.data.values import ValueReader
from windlass_pipelines.rows import Row, is_target

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool", "function_call": "assistant"} | _ROLES
_TOOL_KEYS = ("tool_calls", "function_call")


def chat_message(role: str, content: str) -> Row:
    """Return a message of the internal form."""
    return {"role": role, "content": content}


class MessageReader:
    """Converts lists of messages."""

    def __init__(self, values: ValueReader) -> None:
        self._values = values

    def conversation(self, value: Any, pointer: str) -> list[Row]:
        """Return the messages; a conversation without an answer is rejected."""
        return self.require_answer(self.messages(value, pointer), pointer)

    def messages(self, value: Any, pointer: str) -> list[Row]:
        """Return the messages of a part of a conversation."""
        if not isinstance(value, list):
            self._values.reject("wrong-type", "messages must be a list of objects with role and content", pointer)
        return [self._message(message, pointer + pointer_to(index)) for index, message in enumerate(value)]

    def require_answer(self, messages: list[Row], pointer: str) -> list[Row]:
        """Reject a conversation without an assistant message; warn if every answer is excluded from the loss."""
        if not any(message["role"] == "assistant" for message in messages):
            action = "add an assistant message to each row"
            self._values.reject("no-assistant-message", "the conversation has no assistant message", pointer, action)
        if not any(map(is_target, messages)):
            message = "nothing to learn: every assistant message has weight 0"
            self._values.add("warning", "no-target", message, pointer, "clean with drop-missing")
        return messages

    def _message(self, message: Any, pointer: str) -> Row:
        if not isinstance(message, dict):
            self._values.reject("wrong-type", "a message must be an object with role and content", pointer)
        sharegpt = "role" not in message and "from" in message
        role_key, content_key = ("from", "value") if sharegpt else ("role", "content")
        roles = _SHAREGPT_ROLES if sharegpt else _ROLES
        written = message.get(role_key)
        role = roles.get(written) if isinstance(written, str) else None
        if role is None:
            known = f"{role_key} must be one of {', '.join(roles)}"
            self._values.reject("wrong-role", known, pointer + pointer_to(role_key))
        if written == "function_call" or any(message.get(key) for key in _TOOL_KEYS):
            self._values.unsupported("training on tool calls is not supported", pointer)
        content = self._content(message.get(content_key), pointer + pointer_to(content_key))
        if not content.strip() and role != "system":
            self._values.report_missing(pointer + pointer_to(content_key))
        row = chat_message(role, content)
        if role == "assistant" and not self._is_learned(message, pointer):
            row["weight"] = 0
        return row

    def _is_learned(self, message: Mapping[str, Any], pointer: str) -> bool:
        weight, train = message.get("weight"), message.get("train")
        if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
            self._values.reject("wrong-weight", "weight must be 0 or 1", pointer + pointer_to("weight"))
        if train is not None and not isinstance(train, bool):
            self._values.reject("wrong-type", "train must be true or false", pointer + pointer_to("train"))
        return weight != 0 and train is not False

    def _content(self, content: Any, pointer: str) -> str:
        if isinstance(content, list):
            parts = [
                part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
            ]
            if not all(isinstance(part, str) for part in parts):
                self._values.unsupported("content parts other than text are not supported", pointer)
            content = "".join(str(part) for part in parts)
        return self._values.text(content, pointer)
