"""Questions that no watch answers, asked in a thread of their own: one at a time, so many a second, and when needed."""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from windlass.kube.errors import ClusterError, NotFoundError, UnknownKindError

_LONGEST: Final = 60.0
_FIRST: Final = 2.0
_log = logging.getLogger(__name__)
Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


@dataclass
class _Case(Generic[A]):
    """A question: what it depends on, when it is due, and what was answered to that."""

    state: Hashable
    due: float
    tries: int = 0
    answer: A | None = None


class Inquiry(Generic[Q, A]):
    """Keeps the answers to the questions that are wanted.

    A question is asked once for each state of what it depends on; ``ask`` also says whether its answer is the last word
    on that state: if not, it is asked again after 2, 4, 8, ... 60 seconds. ``news`` is called when an answer changed.
    After a failure all questions pause; a thing that is not there is answered by None.
    """

    def __init__(
        self,
        ask: Callable[[Q, Hashable], tuple[A, bool]],
        news: Callable[[], None],
        *,
        name: str,
        per_second: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._news, self._pause, self._clock = ask, news, 1.0 / per_second, clock
        self._cases: dict[Q, _Case[A]] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; what was stopped does not start again."""
        self._thread.start()

    def stop(self, patience: float = 5.0) -> None:
        """End the thread; one that awaits an answer ends with it, after ``patience`` seconds unobserved."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(patience)

    def want(self, questions: Mapping[Q, Hashable]) -> None:
        """Say what is to be known from now on, and the state that each question depends on."""
        with self._changed:
            now = self._clock()
            cases = self._cases
            self._cases = {
                one: cases[one] if one in cases and cases[one].state == state else _Case(state, now)
                for one, state in questions.items()
            }
            self._changed.notify()

    def answers(self) -> dict[Q, A]:
        """Return what is known of the questions in the state in which they are wanted."""
        with self._changed:
            return {one: case.answer for one, case in self._cases.items() if case.answer is not None}

    def _run(self) -> None:
        while not self._stop.is_set():
            if found := self._next():
                self._stop.wait(self._turn(*found))

    def _next(self) -> tuple[Q, _Case[A]] | None:
        with self._changed:
            question = min(self._cases, key=lambda one: self._cases[one].due, default=None)
            if question is None:
                self._changed.wait(None if not self._stop.is_set() else 0)
                return None
            case = self._cases[question]
            if (early := case.due - self._clock()) > 0:
                self._changed.wait(min(early, _LONGEST) if not self._stop.is_set() else 0)
                return None
            return question, case

    def _turn(self, question: Q, case: _Case[A]) -> float:
        """Ask one question; return the pause until the next one."""
        answer: A | None
        try:
            answer, last = self._ask(question, case.state)
        except UnknownKindError as error:
            return self._failed(error)
        except NotFoundError:
            answer, last = None, True
        except ClusterError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - an answer that cannot be read is as good as none
            return self._failed(ClusterError(f"{type(error).__name__}: {error}"))
        self._failures = 0
        with self._changed:
            case.tries += 1
            case.due = float("inf") if last else self._clock() + min(_LONGEST, _FIRST * 2.0 ** (case.tries - 1))
            news, case.answer = answer != case.answer, answer
            news = news and self._cases.get(question) is case
        if news:
            self._news()
        return self._pause

    def _failed(self, error: ClusterError) -> float:
        self._failures += 1
        if self._failures == 1:
            _log.warning("a question to the cluster was not answered", extra={"error": error.message})
        return max(error.retry_after or 0.0, min(_LONGEST, _FIRST * 2.0 ** min(self._failures - 1, 10)))
