"""Questions are asked when something changed, no oftener than allowed, and again until the answer is the last word."""

import threading
import time
from collections.abc import Hashable, Iterator

import pytest
from tests.unit.kube.test_kube_watching import eventually

from windlass.kube.errors import ClusterError, NotFoundError, UnavailableError
from windlass.kube.inquiry import Inquiry


class Oracle:
    """Answers by what is prepared, and counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Hashable]] = []
        self.said: dict[str, str | ClusterError] = {}
        self.last = True
        self.news = 0

    def ask(self, question: str, state: Hashable) -> tuple[str, bool]:
        self.asked.append((question, state))
        answer = self.said.get(question, "yes")
        if isinstance(answer, ClusterError):
            raise answer
        return answer, self.last

    def tell(self) -> None:
        self.news += 1


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def inquiry(oracle: Oracle) -> Iterator[Inquiry[str, str]]:
    found: Inquiry[str, str] = Inquiry(oracle.ask, oracle.tell, name="ask oracle", per_second=200.0)
    found.start()
    yield found
    began = time.monotonic()
    found.stop()
    assert time.monotonic() - began < 1
    assert not [one for one in threading.enumerate() if one.name == "ask oracle"]


def test_a_question_is_asked_once_for_each_state(oracle: Oracle, inquiry: Inquiry[str, str]) -> None:
    inquiry.want({"a": 1, "b": 1})
    eventually(lambda: inquiry.answers() == {"a": "yes", "b": "yes"})
    inquiry.want({"a": 1, "b": 2})
    assert inquiry.answers() == {"a": "yes"}, "what was answered to another state is not known"
    eventually(lambda: len(inquiry.answers()) == 2)
    inquiry.want({"a": 1})
    assert inquiry.answers() == {"a": "yes"}
    time.sleep(0.1)
    assert sorted(oracle.asked, key=str) == [("a", 1), ("b", 1), ("b", 2)]
    assert oracle.news == 3


def test_an_answer_that_is_not_the_last_word_is_asked_for_again(
    oracle: Oracle, inquiry: Inquiry[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.kube.inquiry._FIRST", 0.02)
    oracle.last = False
    inquiry.want({"a": 1})
    eventually(lambda: len(oracle.asked) == 3)
    assert oracle.news == 1, "the same answer is no news"
    oracle.said["a"], oracle.last = "no", True
    eventually(lambda: inquiry.answers() == {"a": "no"})
    count = len(oracle.asked)
    time.sleep(0.2)
    assert len(oracle.asked) == count


def test_there_are_only_so_many_a_second(oracle: Oracle) -> None:
    slow: Inquiry[str, str] = Inquiry(oracle.ask, oracle.tell, name="ask oracle", per_second=10.0)
    slow.start()
    slow.want({str(number): 1 for number in range(100)})
    time.sleep(0.55)
    slow.stop()
    assert 2 <= len(oracle.asked) <= 7


def test_after_a_failure_it_pauses_and_what_is_not_there_is_no_failure(
    oracle: Oracle, inquiry: Inquiry[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle.said = {"gone": NotFoundError("no such queue")}
    inquiry.want({"gone": 1, "a": 1})
    eventually(lambda: inquiry.answers() == {"a": "yes"})
    monkeypatch.setattr("windlass.kube.inquiry._FIRST", 0.2)
    oracle.said = {"b": UnavailableError("try later")}
    inquiry.want({"b": 1})
    eventually(lambda: ("b", 1) in oracle.asked)
    oracle.said = {}
    time.sleep(0.1)
    assert inquiry.answers() == {}
    eventually(lambda: inquiry.answers() == {"b": "yes"})
