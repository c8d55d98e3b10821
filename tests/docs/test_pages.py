"""The reader of the pages, on small ones: what it runs is what the reader of a page would type."""

import subprocess
from pathlib import Path

import pytest
from tests.docs.pages import Command, commands_of, session

PAGE = Path("guide.md")
MARKDOWN = """
# Guide
```console
$ first --flag
what it prints
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
"""


def test_commands_are_read_with_their_place_and_marks() -> None:
    assert commands_of(PAGE, MARKDOWN) == [
        Command(PAGE, 4, "first --flag"),
        Command(PAGE, 6, "second \\\n    --more"),
        Command(PAGE, 11, "third", skip="it needs a cluster"),
        Command(PAGE, 15, "true"),
        Command(PAGE, 16, "(exit 6)", exit_code=6),
        Command(PAGE, 19, "cat > job.yaml <<'END'\ntask: chat\nEND"),
        Command(PAGE, 22, "hidden"),
    ]


@pytest.mark.parametrize(
    ("texts", "code", "said"),
    [
        ([("x=1", 0), ('test "$x" = 1', 0)], 0, ""),
        ([("false", 0), ("echo reached >&2", 0)], 1, "guide.md:1: exit 1 instead of 0"),
        ([("(exit 6)", 6)], 0, ""),
        ([("true", 6)], 1, "guide.md:1: exit 0 instead of 6"),
        ([("cat <<'END' | grep -q chat\ntask: chat\nEND", 0)], 0, ""),
    ],
)
def test_a_session_stops_at_the_first_surprise(texts: list[tuple[str, int]], code: int, said: str) -> None:
    script = session([Command(PAGE, 1, text, exit_code) for text, exit_code in texts])
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == code
    assert said in ended.stderr
    assert "reached" not in ended.stderr.splitlines()
