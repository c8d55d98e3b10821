"""Reads the commands out of the Markdown pages.

A fenced block tagged ``console`` holds commands: lines that begin with ``$ ``, continued by lines that begin with
``> `` or up to the end of a here-document. All other lines of the block are output, for the reader. The commands of a
page are one session, in order. An HTML comment on the line before a block says what is special:

- ``<!-- console: skip REASON -->``: not run;
- ``<!-- console: exit N -->``: the block's last command exits with N;
- ``<!-- console: setup`` ... ``-->``: the comment itself holds commands that readers need not see.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.architecture.tree import ROOT, project_files

_BLOCK = re.compile(
    r"(?:^<!-- console: (?P<mark>skip|exit) (?P<value>[^\n]+?) -->\n)?^```console\n(?P<shown>.*?)^```$"
    r"|^<!-- console: setup\n(?P<hidden>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
# A page says `windlass up`; the port of a test is its own.
ON_A_FREE_PORT = (
    'windlass() { local verb=$1; shift; command windlass "$verb" $([ "$verb" = up ] && echo --port 0) "$@"; }\n'
)
_HERE_DOCUMENT = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True)
class Command:
    """One command: where it stands, its text, whether and how it is run."""

    page: Path
    line: int
    text: str
    exit_code: int = 0
    skip: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _texts(block: str) -> list[tuple[int, str]]:
    """The commands of a block with their line in it, from 0."""
    lines = block.splitlines()
    found: list[tuple[int, str]] = []
    number = 0
    while number < len(lines):
        if not lines[number].startswith("$ "):
            number += 1
            continue
        start, text = number, lines[number][2:]
        end = _HERE_DOCUMENT.search(text)
        while (number := number + 1) < len(lines):
            if not lines[number].startswith("> ") and not (end and lines[number - 1] != end[1]):
                break
            text += "\n" + lines[number].removeprefix("> ")
        found.append((start, text))
    return found


def commands_of(page: Path, markdown: str) -> list[Command]:
    found: list[Command] = []
    for block in _BLOCK.finditer(markdown):
        group = "hidden" if block["hidden"] is not None else "shown"
        first = markdown.count("\n", 0, block.start(group)) + 1
        texts = _texts(block[group])
        skip = block["value"] if block["mark"] == "skip" else ""
        for index, (line, text) in enumerate(texts):
            last = index == len(texts) - 1
            code = int(block["value"]) if block["mark"] == "exit" and last else 0
            found.append(Command(page, first + line, text, code, skip))
    return found


@cache
def all_pages() -> tuple[Path, ...]:
    return tuple(path for path in project_files() if path.suffix == ".md")


def documented_commands() -> list[Command]:
    return [command for page in all_pages() for command in commands_of(page, (ROOT / page).read_text("utf-8"))]


def session(commands: list[Command]) -> str:
    """A bash script that runs the commands in order and stops at the first that ends otherwise than it says."""
    lines = ["set -uo pipefail"]
    for command in commands:
        if not command.skip:
            lines += [
                f"echo '>>> {command}' >&2",
                command.text,
                f"__code=$?; __wanted={command.exit_code}",
                f'[ $__code -eq $__wanted ] || {{ echo "{command}: exit $__code instead of $__wanted" >&2; exit 1; }}',
            ]
    return "\n".join(lines) + "\n"
