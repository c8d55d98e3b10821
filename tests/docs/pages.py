"""Reads the commands and the Python examples of the Markdown pages.

A fenced ``console`` block contains commands: lines that begin with ``$ ``, continued by lines that begin with ``> `` or
up to the end of a here-document. All other lines are output. The commands of a page form one session, in order. An HTML
comment on the line before a block changes how it is run:

- ``<!-- console: skip REASON -->``: not run;
- ``<!-- console: exit N -->``: the block's last command exits with N;
- ``<!-- console: setup`` ... ``-->``: the comment itself contains commands, hidden from readers.

A ``python`` block after ``<!-- python: run -->`` is run by an interpreter of its own, as one command of the session. It
starts with the code of ``<!-- python: setup`` ... ``-->``, if the page has one.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.architecture.tree import ROOT, project_files

_BLOCK = re.compile(
    r"(?:^<!-- console: (?P<mark>skip|exit) (?P<value>[^\n]+?) -->\n)?^```console\n(?P<shown>.*?)^```$"
    r"|^<!-- console: setup\n(?P<hidden>.*?)^-->$"
    r"|^<!-- python: run -->\n```python\n(?P<python>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Pages call `windlass up` without a port; tests use a free one.
ON_A_FREE_PORT = (
    'windlass() { local verb=$1; shift; command windlass "$verb" $([ "$verb" = up ] && echo --port 0) "$@"; }\n'
)
_PYTHON_SETUP = re.compile(r"^<!-- python: setup\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
_HERE_DOCUMENT = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True)
class PageCommand:
    """One command with its location, expected exit code and skip reason."""

    page: Path
    line: int
    text: str
    exit_code: int = 0
    skip: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _texts(block: str) -> list[tuple[int, str]]:
    """The commands of a block with their line index."""
    lines = block.splitlines()
    commands: list[tuple[int, str]] = []
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
        commands.append((start, text))
    return commands


def commands_of(page: Path, markdown: str) -> list[PageCommand]:
    commands: list[PageCommand] = []
    setup = _PYTHON_SETUP.search(markdown)
    for block in _BLOCK.finditer(markdown):
        if block["python"] is not None:
            code = (setup[1] if setup else "") + block["python"]
            line = markdown.count("\n", 0, block.start("python")) + 1
            commands.append(PageCommand(page, line, f"python - <<'END_OF_PYTHON'\n{code}END_OF_PYTHON"))
            continue
        group = "hidden" if block["hidden"] is not None else "shown"
        first = markdown.count("\n", 0, block.start(group)) + 1
        texts = _texts(block[group])
        skip = block["value"] if block["mark"] == "skip" else ""
        for index, (line, text) in enumerate(texts):
            last = index == len(texts) - 1
            exit_code = int(block["value"]) if block["mark"] == "exit" and last else 0
            commands.append(PageCommand(page, first + line, text, exit_code, skip))
    return commands


@cache
def all_pages() -> tuple[Path, ...]:
    return tuple(path for path in project_files() if path.suffix == ".md")


def documented_commands() -> list[PageCommand]:
    return [command for page in all_pages() for command in commands_of(page, (ROOT / page).read_text("utf-8"))]


def session(commands: list[PageCommand]) -> str:
    """A bash script that runs the commands in order and stops at the first unexpected exit code."""
    lines = ["set -uo pipefail"]
    for command in commands:
        if not command.skip:
            lines += [
                f"echo '>>> {command}' >&2",
                command.text,
                f"__code=$?; __want={command.exit_code}",
                f'[ $__code -eq $__want ] || {{ echo "{command}: exit $__code instead of $__want" >&2; exit 1; }}',
            ]
    return "\n".join(lines) + "\n"
