"""A conversation in a terminal: what is typed, what is answered, and what Ctrl-C and Ctrl-D do."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.sdk.stand_in import Answer, StandIn, events, problem

CHAT = "/v1/projects/default/endpoints/desk/chat/completions"
DONE = "data: [DONE]\n\n"
_WINDLASS = (sys.executable, "-c", "from windlass.cli.main import main; main()")


class Terminal:
    """``windlass chat desk`` with a terminal of its own."""

    def __init__(self, url: str, home: Path) -> None:
        self.screen = self.everything = ""
        self._side, theirs = pty.openpty()
        plain = {"WINDLASS_URL": url, "WINDLASS_KEY": "wlk_test_secret", "HOME": str(home), "TERM": "dumb"}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from windlass.cli.main import main; main()",
                "chat",
                "desk",
                "--system",
                "Be kind.",
            ],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | plain,
            start_new_session=True,
        )
        os.close(theirs)

    def sees(self, words: str) -> None:
        """Wait until the words are on the screen, after all that was seen before."""
        deadline = time.monotonic() + 60
        while words not in self.screen:
            assert time.monotonic() < deadline, f"waited for {words!r}, the screen shows {self.screen!r}"
            if select.select([self._side], [], [], 0.1)[0]:
                came = os.read(self._side, 4096).decode()
                self.screen += came
                self.everything += came
        self.screen = self.screen.partition(words)[2]

    def types(self, keys: str) -> None:
        os.write(self._side, keys.encode())

    def leaves_by_ctrl_c(self) -> int:
        """Press Ctrl-C at the prompt; again, since Python misses one that comes just before it begins to read."""
        for _ in range(12):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(5)  # a second one while it is ending would kill it
        raise AssertionError("it does not leave")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._side)


def delta(text: str) -> str:
    return (
        "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}) + "\n\n"
    )


@pytest.fixture
def desk() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def terminal(desk: StandIn, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(desk.url, tmp_path)
    yield opened
    opened.close()


def told(desk: StandIn, number: int) -> list[tuple[str, str]]:
    """The conversation that a request carried."""
    messages = json.loads(desk.requests("POST", CHAT)[number].body)["messages"]
    return [(message["role"], message["content"]) for message in messages]


def test_a_conversation_carries_what_was_said_and_ends_with_ctrl_d(desk: StandIn, terminal: Terminal) -> None:
    desk.on("POST", CHAT, events(delta("Good "), delta("day."), DONE), events(delta("Still good."), DONE))
    terminal.sees("> ")
    terminal.types("Hello\n")
    terminal.sees("Good day.")
    terminal.sees("> ")
    terminal.types("\n")
    terminal.sees("> ")
    terminal.types("And now?\n")
    terminal.sees("Still good.")
    terminal.sees("> ")
    terminal.types("\x04")
    assert terminal.process.wait(30) == 0
    said = [("system", "Be kind."), ("user", "Hello")]
    assert told(desk, 0) == said
    assert told(desk, 1) == [*said, ("assistant", "Good day."), ("user", "And now?")]


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on_without_it(desk: StandIn, terminal: Terminal) -> None:
    hold = threading.Event()
    endless = Answer(200, delta("I could go on ").encode(), {"Content-Type": "text/event-stream"}, hold=hold)
    desk.on("POST", CHAT, endless, events(delta("Short."), DONE))
    terminal.sees("> ")
    terminal.types("Tell me everything\n")
    terminal.sees("I could go on")
    terminal.process.send_signal(signal.SIGINT)
    terminal.sees("stopped")
    hold.set()
    terminal.sees("> ")
    terminal.types("In short?\n")
    terminal.sees("Short.")
    assert told(desk, 1) == [("system", "Be kind."), ("user", "In short?")]
    terminal.sees("> ")
    assert terminal.leaves_by_ctrl_c() == 0


def test_a_question_that_fails_is_told_and_can_be_asked_again(desk: StandIn, terminal: Terminal) -> None:
    desk.on("POST", CHAT, problem(422, "context_length_exceeded"), events(delta("Fine."), DONE))
    terminal.sees("> ")
    terminal.types("Too long\n")
    terminal.sees("error: it is context_length_exceeded")
    terminal.sees("> ")
    terminal.types("Shorter\n")
    terminal.sees("Fine.")
    assert told(desk, 1) == [("system", "Be kind."), ("user", "Shorter")]


def test_what_a_model_says_cannot_steer_the_terminal(desk: StandIn, terminal: Terminal) -> None:
    desk.on("POST", CHAT, events(delta("\x1b[2Jgone\x07"), delta(" end"), DONE))
    terminal.sees("> ")
    terminal.types("Hello\n")
    terminal.sees("gone")
    terminal.sees(" end")
    assert not {"\x1b", "\x07"} & set(terminal.everything)
