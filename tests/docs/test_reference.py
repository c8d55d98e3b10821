"""The pages match the code and each other: generated sections, links, job specs, commands and options."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs import generate, rest
from docs.command_line import child, root
from pydantic import TypeAdapter
from tests.architecture.tree import ROOT
from tests.docs.pages import PageCommand, all_pages, documented_commands

from windlass.domain.specs import JobSpec

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_sections_are_current() -> None:
    """``make docs`` updates them."""
    stale = [page for page in generate.pages() if generate.rendered(page) != page.read_text("utf-8")]
    assert [str(page.relative_to(ROOT)) for page in stale] == []


def test_every_generated_section_is_on_a_page() -> None:
    text = "".join(page.read_text("utf-8") for page in generate.pages())
    assert [name for name in generate.SECTIONS if f"<!-- generated: {name} -->" not in text] == []


def test_curl_examples_have_a_valid_body_and_reach_their_route() -> None:
    found = 0
    for route in rest.routes():
        if not (command := rest.curl(route)):
            continue
        words = shlex.split(command)
        url, body = words[3].removeprefix("$WINDLASS_URL"), words[words.index("-d") + 1]
        assert route.path_regex.match(url), command
        assert route.body_field is not None
        model: Any = route.body_field.field_info.annotation
        TypeAdapter(model).validate_json(body)
        found += 1
    assert found > 10


def test_links_have_targets() -> None:
    dead = []
    for page in all_pages():
        for link in LINK.findall(FENCE.sub("", (ROOT / page).read_text("utf-8"))):
            target, _, anchor = link.partition("#")
            if target.startswith(("http:", "https:", "mailto:")):
                continue
            file = (ROOT / page).parent / target if target else ROOT / page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                dead.append(f"{page}: {link}")
    assert dead == []


def test_every_page_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    pages = {(ROOT / page).resolve() for page in all_pages() if page.parts[0] == "docs"} - {index}
    assert sorted(str(page) for page in pages - linked) == []


def mappings(page: Path) -> Iterator[object]:
    """The mappings in YAML blocks, here-documents and Python blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    for block in re.findall(r"^```yaml\n(.*?)^```$|<<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL):
        yield yaml.safe_load("".join(block))
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Dict):
                yield ast.literal_eval(node)


def test_job_specs_on_the_pages_are_valid() -> None:
    specs = [m for page in all_pages() for m in mappings(page) if isinstance(m, dict) and "base_model" in m]
    assert specs
    for spec in specs:
        JobSpec.model_validate(spec)


def shell_words(text: str) -> Iterator[str]:
    """The words of a command; separators of simple commands, newlines among them, are words too."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="\n|&;<>")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    return iter(lexer)


def starts_a_command(before: str) -> bool:
    """Whether the word after ``before`` is the name of a program."""
    keywords = {"until", "while", "if", "do", "then", "!", "time"}
    return before in keywords or not before.strip("\n|&;") or re.match(r"[A-Z_]+=", before) is not None


def windlass_calls(command: PageCommand) -> list[list[str]]:
    """The ``windlass`` calls of a command, each as a list of its arguments."""
    calls: list[list[str]] = []
    open_call: list[str] | None = None
    before = ";"
    for word in shell_words(command.text.split("<<")[0].replace("\\\n", " ")):
        # `windlass` is also the name of a Helm release, an argument
        if (word == "windlass" and starts_a_command(before)) or word.endswith("$(windlass"):
            calls.append(open_call := [])
        elif not word.strip("\n|&;<>"):
            open_call = None
        elif open_call is not None:
            open_call.append(word.removesuffix(")"))
        before = word
    return calls


def problem(call: list[str]) -> str:
    """The problem with a call of the CLI, empty if there is none."""
    command, words = root(), list(call)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in command.commands:
            return f"no command {name!r}"
        command = child(command, name)
    if hasattr(command, "commands"):
        return "" if words in (["--help"], ["--version"]) else "an incomplete command"
    known = {"--help"}.union(*([*parameter.opts, *parameter.secondary_opts] for parameter in command.params))
    unknown = [word for word in words if word.startswith("-") and len(word) > 1 and word.partition("=")[0] not in known]
    return f"no option {', '.join(unknown)}" if unknown else ""


def test_every_documented_call_exists() -> None:
    calls = [(command, call) for command in documented_commands() for call in windlass_calls(command)]
    assert calls
    assert {f"{command}: windlass {shlex.join(call)}": p for command, call in calls if (p := problem(call))} == {}


@pytest.mark.parametrize("call", [["nonsense"], ["job"], ["job", "create", "--no-such-option"]])
def test_an_unknown_call_is_a_problem(call: list[str]) -> None:
    assert problem(call)
