"""Tests of the pages: their code blocks, the command parser and the generated shell scripts."""

import subprocess
from pathlib import Path

import pytest
from tests.architecture.tree import ROOT
from tests.docs.pages import PageCommand, all_pages, commands_of, session

PAGE = Path("guide.md")
MARKDOWN = """
# Guide
```console
$ first --flag
its output
$ second \\
>     --more
```
<!-- console: skip it needs a cluster -->
```console
$ third
```
<!-- console: exit 6 -->
```console
$ true
$ (exit 6)
```
<!-- console: setup
$ cat > job.yaml <<'END'
task: chat
END
$ hidden
-->
```text
$ no command
```
<!-- python: setup
client = 1
-->
```python
not_run()
```
<!-- python: run -->
```python
print(client)
```
"""


def test_commands_are_parsed_with_location_and_options() -> None:
    assert commands_of(PAGE, MARKDOWN) == [
        PageCommand(PAGE, 4, "first --flag"),
        PageCommand(PAGE, 6, "second \\\n    --more"),
        PageCommand(PAGE, 11, "third", skip="it needs a cluster"),
        PageCommand(PAGE, 15, "true"),
        PageCommand(PAGE, 16, "(exit 6)", exit_code=6),
        PageCommand(PAGE, 19, "cat > job.yaml <<'END'\ntask: chat\nEND"),
        PageCommand(PAGE, 22, "hidden"),
        PageCommand(PAGE, 35, "python - <<'END_OF_PYTHON'\nclient = 1\nprint(client)\nEND_OF_PYTHON"),
    ]


@pytest.mark.parametrize(
    ("texts", "code", "message"),
    [
        ([("x=1", 0), ('test "$x" = 1', 0)], 0, ""),
        ([("false", 0), ("echo reached >&2", 0)], 1, "guide.md:1: exit 1 instead of 0"),
        ([("(exit 6)", 6)], 0, ""),
        ([("true", 6)], 1, "guide.md:1: exit 0 instead of 6"),
        ([("cat <<'END' | grep -q chat\ntask: chat\nEND", 0)], 0, ""),
    ],
)
def test_a_session_stops_at_the_first_unexpected_exit_code(
    texts: list[tuple[str, int]], code: int, message: str
) -> None:
    script = session([PageCommand(PAGE, 1, text, exit_code) for text, exit_code in texts])
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == code
    assert message in ended.stderr
    assert "reached" not in ended.stderr.splitlines()


@pytest.mark.parametrize("page", all_pages(), ids=str)
def test_code_blocks_are_closed(page: Path) -> None:
    fences = [line for line in (ROOT / page).read_text("utf-8").splitlines() if line.lstrip().startswith("```")]
    assert [fence for fence in fences[1::2] if fence.strip() != "```"] == []
    assert len(fences) % 2 == 0
