"""The support conversations: from the ChatterBot corpus to ``support.jsonl``, one ``messages`` row each."""

import json
from pathlib import Path

import yaml

from windlass.examples.archives import read_wheel_member

_MEMBER = "chatterbot_corpus/data/english/tech_support.yml"
_ROLES = ("user", "assistant")


def write_support(wheel: Path, target: Path) -> None:
    """Write ``support.jsonl``; roles alternate, starting with the user."""
    corpus = yaml.safe_load(read_wheel_member(wheel, _MEMBER))
    with (target / "support.jsonl").open("x", encoding="utf-8", newline="\n") as stream:
        for conversation in corpus["conversations"]:
            messages = [{"role": _ROLES[number % 2], "content": text} for number, text in enumerate(conversation)]
            stream.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
