"""Runs the tests that execute the changed lines, in forks of a process that has collected the tests of a module.

The forks import nothing. A first fork runs all tests without a mutant and records which lines each test executes.
"""

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import TextIO

import coverage
import pytest
from tests.mutants.exchange import exchange
from tests.mutants.processes import ForkedRun, run_forked
from tests.mutants.pytest_run import run_pytest
from tests.mutants.targets import Target

KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"
BASELINE_SECONDS = 3600.0
_MIN_SECONDS, _MIN_CPU_SECONDS, _TIMEOUT_FACTOR = 60.0, 20.0, 8.0
_NOT_RUN = 90


class BaselineError(Exception):
    """The tests fail without a mutant; the argument is the log."""


@dataclass(frozen=True)
class Mutant:
    """The code of a mutated module, and the lines that are changed."""

    name: str
    code: CodeType
    lines: range


@dataclass(frozen=True)
class _Baseline:
    """What the tests take and execute without a mutant, by their position in the collection."""

    wall_seconds: list[float]
    cpu_seconds: float
    tests_of_line: dict[int, list[int]]

    def tests_of(self, mutant: Mutant) -> list[int]:
        """Return the tests that execute a line of the mutant, the fastest first."""
        found = {test for line in mutant.lines for test in self.tests_of_line.get(line, ())}
        return sorted(found, key=self.wall_seconds.__getitem__)


def timeouts(wall_seconds: float, cpu_seconds: float, parallel: int) -> tuple[float, float]:
    """Return the limits of tests that take this time without a mutant."""
    wall = max(_MIN_SECONDS, _TIMEOUT_FACTOR * parallel * wall_seconds)
    return wall, max(_MIN_CPU_SECONDS, _TIMEOUT_FACTOR * cpu_seconds)


def run_collected(target: Target, mutants: Sequence[Mutant], parallel: int) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with its result; one that survives here has passed the selected tests only.

    Raises:
        BaselineError: the tests fail without a mutant.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _serve(target, mutants, parallel, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as replies:
        for line in replies:
            number, text = json.loads(line)
            if number is None:
                raise BaselineError(text)
            yield mutants[number], text
    os.waitpid(pid, 0)


def _serve(target: Target, mutants: Sequence[Mutant], parallel: int, writing: int) -> None:
    """Collect the tests, run the mutants, and end the process."""
    try:
        with os.fdopen(writing, "w", encoding="utf-8") as replies, tempfile.TemporaryFile("w+") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            run_loop = _RunLoop(target, mutants, parallel, replies)
            run_pytest(target.tests, run_loop)
            if not run_loop.has_baseline:
                log.seek(0)
                run_loop.reply(None, log.read())
    finally:
        os._exit(0)


class _RunLoop:
    """A pytest plugin that runs the collected tests once per mutant."""

    def __init__(self, target: Target, mutants: Sequence[Mutant], parallel: int, replies: TextIO) -> None:
        self._target, self._mutants, self._parallel, self._replies = target, mutants, parallel, replies
        self._original = compile(target.source, str(target.path), "exec")
        self.has_baseline = False

    def reply(self, number: int | None, text: str) -> None:
        self._replies.write(json.dumps([number, text]) + "\n")
        self._replies.flush()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for name in self._target.warm_up:
            module, _, function = name.partition(":")
            getattr(importlib.import_module(module), function)()
        with tempfile.TemporaryDirectory() as folder:
            measured = Path(folder) / "baseline.json"
            task = ForkedRun("baseline", partial(self._measure, session, measured), BASELINE_SECONDS, BASELINE_SECONDS)
            [ended] = run_forked([task], 1)
            if ended.exit_code:
                self.reply(None, ended.log)
                return True
            seconds, cpu_seconds, lines = json.loads(measured.read_bytes())
        self.has_baseline = True
        baseline = _Baseline(seconds, cpu_seconds, {int(line): tests for line, tests in lines.items()})
        numbers = {mutant.name: number for number, mutant in enumerate(self._mutants)}
        tasks = (self._task(session, mutant, baseline) for mutant in self._mutants)
        for ended in run_forked(tasks, self._parallel):
            result = {None: TIMEOUT, 0: SURVIVED, _NOT_RUN: SURVIVED}.get(ended.exit_code, KILLED)
            self.reply(numbers[ended.task.name], result)
        return True

    def _measure(self, session: pytest.Session, measured: Path) -> int:
        """Run all tests, and record the lines that each of them executes."""
        lines = coverage.Coverage(data_file=None, include=[str(self._target.path)], config_file=False)
        seconds = []
        lines.start()
        for number, item in enumerate(session.items):
            lines.switch_context(str(number))
            began = time.monotonic()
            following = session.items[number + 1] if number + 1 < len(session.items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds.append(time.monotonic() - began)
        lines.stop()
        contexts = lines.get_data().contexts_by_lineno(str(self._target.path))
        tests = {line: [int(each) for each in names if each] for line, names in contexts.items()}
        measured.write_text(json.dumps([seconds, sum(os.times()[:4]), tests]), encoding="utf-8")
        terminal = session.config.pluginmanager.getplugin("terminalreporter")
        terminal.summary_errors()
        terminal.summary_failures()
        return int(session.testsfailed > 0)

    def _task(self, session: pytest.Session, mutant: Mutant, baseline: _Baseline) -> ForkedRun:
        tests = baseline.tests_of(mutant)
        items = [session.items[number] for number in tests]
        seconds = sum(baseline.wall_seconds[number] for number in tests)
        run = partial(self._run, session, mutant, items)
        return ForkedRun(mutant.name, run, *timeouts(seconds, min(seconds, baseline.cpu_seconds), self._parallel))

    def _run(self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item]) -> int:
        if not items or not exchange(self._original, mutant.code):
            return _NOT_RUN
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0
