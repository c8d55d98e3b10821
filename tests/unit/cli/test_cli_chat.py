"""A chat in a terminal: input, answers, Ctrl-C and Ctrl-D."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.sdk.stub_server import StubResponse, StubServer, events, problem

CHAT = "/v1/projects/default/endpoints/desk/chat/completions"
DONE = "data: [DONE]\n\n"

# A shell that starts the tests in the background lets them ignore SIGINT, and programs inherit that.
_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from windlass.cli.main import main
main()
"""


class Terminal:
    """``windlass chat desk`` in a pseudo-terminal."""

    def __init__(self, url: str, home: Path) -> None:
        self.screen = self.everything = ""
        self._master, slave = pty.openpty()
        environment = {"WINDLASS_URL": url, "WINDLASS_KEY": "wlk_test_secret", "HOME": str(home), "TERM": "dumb"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "chat", "desk", "--system", "Be kind."],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | environment,
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, text: str) -> None:
        """Wait until the screen shows ``text`` after what earlier calls matched."""
        assert self._shows(text, 60), f"waited for {text!r}, the screen shows {self.screen!r}"
        self.screen = self.screen.partition(text)[2]

    def _shows(self, text: str, seconds: float) -> bool:
        """Read what the chat prints until it has printed ``text``; False when the time is over."""
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            if time.monotonic() > deadline:
                return False
            if select.select([self._master], [], [], 0.1)[0]:
                output = os.read(self._master, 4096).decode()
                self.screen += output
                self.everything += output
        return True

    def type_keys(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def stop_answer_with_ctrl_c(self) -> None:
        """Press Ctrl-C until the chat shows that it has stopped the answer."""
        self._press_ctrl_c_until(lambda: self._shows("stopped", 8))
        self.wait_for("stopped")

    def leave_with_ctrl_c(self) -> int:
        """Press Ctrl-C at the prompt until the chat ends, and return its exit code."""

        def has_ended() -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(8)
            return self.process.returncode is not None

        self._press_ctrl_c_until(has_ended)
        return self.process.returncode

    def _press_ctrl_c_until(self, has_effect: Callable[[], bool]) -> None:
        """Press Ctrl-C, and again if it has no effect soon, as a person does.

        A signal between Python's last check and the system call that waits has an effect only after that call. At the
        prompt of a busy machine that is one of thirty.
        """
        for _ in range(7):
            self.process.send_signal(signal.SIGINT)
            if has_effect():
                return
        raise AssertionError(f"Ctrl-C has no effect; the screen shows {self.screen!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def delta(text: str) -> str:
    return (
        "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}) + "\n\n"
    )


@pytest.fixture
def desk() -> Iterator[StubServer]:
    with StubServer() as server:
        yield server


@pytest.fixture
def terminal(desk: StubServer, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(desk.url, tmp_path)
    yield opened
    opened.close()


def sent_messages(desk: StubServer, number: int) -> list[tuple[str, str]]:
    """Return the messages of a request."""
    messages = json.loads(desk.requests("POST", CHAT)[number].body)["messages"]
    return [(message["role"], message["content"]) for message in messages]


def test_chat_sends_the_history_and_ends_with_ctrl_d(desk: StubServer, terminal: Terminal) -> None:
    desk.on("POST", CHAT, events(delta("Good "), delta("day."), DONE), events(delta("Still good."), DONE))
    terminal.wait_for("> ")
    terminal.type_keys("Hello\n")
    terminal.wait_for("Good day.")
    terminal.wait_for("> ")
    terminal.type_keys("\n")
    terminal.wait_for("> ")
    terminal.type_keys("And now?\n")
    terminal.wait_for("Still good.")
    terminal.wait_for("> ")
    terminal.type_keys("\x04")
    assert terminal.process.wait(30) == 0
    history = [("system", "Be kind."), ("user", "Hello")]
    assert sent_messages(desk, 0) == history
    assert sent_messages(desk, 1) == [*history, ("assistant", "Good day."), ("user", "And now?")]


def test_ctrl_c_stops_an_answer_and_keeps_it_out_of_the_history(desk: StubServer, terminal: Terminal) -> None:
    hold = threading.Event()
    endless = StubResponse(200, delta("I could go on ").encode(), {"Content-Type": "text/event-stream"}, hold=hold)
    desk.on("POST", CHAT, endless, events(delta("Short."), DONE))
    terminal.wait_for("> ")
    terminal.type_keys("Tell me everything\n")
    terminal.wait_for("I could go on")
    terminal.stop_answer_with_ctrl_c()
    hold.set()
    terminal.wait_for("> ")
    terminal.type_keys("In short?\n")
    terminal.wait_for("Short.")
    assert sent_messages(desk, 1) == [("system", "Be kind."), ("user", "In short?")]
    terminal.wait_for("> ")
    assert terminal.leave_with_ctrl_c() == 0


def test_failed_question_is_reported_and_kept_out_of_the_history(desk: StubServer, terminal: Terminal) -> None:
    desk.on("POST", CHAT, problem(422, "context_length_exceeded"), events(delta("Fine."), DONE))
    terminal.wait_for("> ")
    terminal.type_keys("Too long\n")
    terminal.wait_for("error: it is context_length_exceeded")
    terminal.wait_for("> ")
    terminal.type_keys("Shorter\n")
    terminal.wait_for("Fine.")
    assert sent_messages(desk, 1) == [("system", "Be kind."), ("user", "Shorter")]


def test_answers_cannot_control_the_terminal(desk: StubServer, terminal: Terminal) -> None:
    desk.on("POST", CHAT, events(delta("\x1b[2Jgone\x07"), delta(" end"), DONE))
    terminal.wait_for("> ")
    terminal.type_keys("Hello\n")
    terminal.wait_for("gone")
    terminal.wait_for(" end")
    assert not {"\x1b", "\x07"} & set(terminal.everything)
