"""The pages match the code and each other: generated parts, links, examples of specs, commands and their options."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from docs import generate
from docs.command_line import child, root
from tests.architecture.tree import ROOT
from tests.docs.pages import Command, all_pages, documented_commands

from windlass.domain.specs import JobSpec

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_parts_are_what_the_code_says() -> None:
    """``make docs`` mends it."""
    stale = [page for page in generate.pages() if generate.rendered(page) != page.read_text("utf-8")]
    assert [str(page.relative_to(ROOT)) for page in stale] == []


def test_every_generated_section_stands_on_a_page() -> None:
    text = "".join(page.read_text("utf-8") for page in generate.pages())
    assert [name for name in generate.SECTIONS if f"<!-- generated: {name} -->" not in text] == []


def test_links_lead_somewhere() -> None:
    dead = []
    for page in all_pages():
        for link in LINK.findall(FENCE.sub("", (ROOT / page).read_text("utf-8"))):
            target, _, anchor = link.partition("#")
            if target.startswith(("http:", "https:", "mailto:")):
                continue
            there = (ROOT / page).parent / target if target else ROOT / page
            if not there.exists() or (anchor and anchor not in anchors(there)):
                dead.append(f"{page}: {link}")
    assert dead == []


def test_every_page_of_docs_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    pages = {(ROOT / page).resolve() for page in all_pages() if page.parts[0] == "docs"} - {index}
    assert sorted(str(page) for page in pages - linked) == []


def mappings(page: Path) -> Iterator[object]:
    """What YAML blocks, here-documents and Python blocks of a page spell out."""
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


def windlass_calls(command: Command) -> list[list[str]]:
    """The ``windlass`` calls of a command, each as its words after the program's name."""
    calls: list[list[str]] = []
    open_call: list[str] | None = None
    for word in shlex.split(command.text.split("<<")[0].replace("\\\n", " "), comments=True):
        if word == "windlass" or word.endswith("$(windlass"):
            calls.append(open_call := [])
        elif word in {"|", "&&", "||", ";", "&", ">", "<"}:
            open_call = None
        elif open_call is not None:
            open_call.append(word.removesuffix(")"))
    return calls


def problem(call: list[str]) -> str:
    """What the real command line does not know of a call, or nothing."""
    place, words = root(), list(call)
    while words and hasattr(place, "commands") and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in place.commands:
            return f"no command {name!r}"
        place = child(place, name)
    if hasattr(place, "commands"):
        return "" if words in (["--help"], ["--version"]) else "not a whole command"
    known = {"--help"}.union(*([*parameter.opts, *parameter.secondary_opts] for parameter in place.params))
    unknown = [word for word in words if word.startswith("-") and len(word) > 1 and word.partition("=")[0] not in known]
    return f"no option {', '.join(unknown)}" if unknown else ""


def test_every_documented_call_exists() -> None:
    found = [(command, call) for command in documented_commands() for call in windlass_calls(command)]
    assert found
    assert {f"{command}: windlass {shlex.join(call)}": p for command, call in found if (p := problem(call))} == {}


@pytest.mark.parametrize("call", [["nonsense"], ["job"], ["job", "create", "--no-such-option"]])
def test_a_call_that_does_not_exist_is_noticed(call: list[str]) -> None:
    assert problem(call)
