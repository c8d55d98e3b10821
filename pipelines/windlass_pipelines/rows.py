"""Rows of the internal form (``windlass.domain.datasets``), shared by the data process and the trainer."""

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]


def texts(row: Row) -> list[str]:
    """Return the texts of a row: the text, or the content of each message in order."""
    return [message["content"] for message in row["messages"]] if "messages" in row else [row["text"]]


def is_target(message: Mapping[str, Any]) -> bool:
    """Return whether training learns to write this message: an answer whose ``weight`` is not 0."""
    return bool(message["role"] == "assistant" and message.get("weight") != 0)


def is_incomplete(row: Row) -> bool:
    """Return whether the row cannot be trained or evaluated on; training skips and counts such rows.

    The text or the label is missing or blank; or a message is blank, unless it is a system message; or no message is a
    target.
    """
    if "messages" not in row:
        return not row["text"].strip() or row["label"] is None
    messages = row["messages"]
    blank = any(not message["content"].strip() for message in messages if message["role"] != "system")
    return blank or not any(map(is_target, messages))
