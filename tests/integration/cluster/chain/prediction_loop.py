"""Clients that send requests all the time, and record what they get."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Final, Self

from tests.integration.cluster.waiting import eventually

from windlass.domain.errors import WindlassError
from windlass.domain.jobs import JobState
from windlass.sdk import Client

_TIMEOUT_SECONDS: Final = 10.0
_TEXTS: Final = ["the motor is very good", "this screen was awful"]


class RequestLoop(ABC):
    """Sends requests in a thread of its own, without retries. An error that is not of Windlass fails the test."""

    pause_seconds = 0.2

    def __init__(self, client: Client, timeout: float = _TIMEOUT_SECONDS) -> None:
        connection = client.connection
        self.client = Client(
            url=connection.url, key=connection.key, project=connection.project, timeout=timeout, retries=0
        )
        self._timeout = timeout
        self._answers = 0
        self._errors: list[WindlassError] = []
        self._unexpected: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    @abstractmethod
    def request(self) -> None:
        """Send the next request, and check its answer."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(self._timeout + 5)
        self.client.close()
        if error is None:
            assert self._unexpected is None, repr(self._unexpected)

    def go_on(self, after: str, seconds: float = 180) -> None:
        """Wait until several requests in a row have been answered, and forget the errors before them."""
        first = self._answers

        def answered() -> bool:
            nonlocal first
            assert self._unexpected is None, repr(self._unexpected)
            if self.errors():
                first = self._answers
            return self._answers >= first + 5

        eventually(answered, f"{type(self).__name__} goes on after {after}", seconds)

    def errors(self) -> list[str]:
        """Return the errors since the last call. Each one has a code and says what is wrong."""
        errors, self._errors = self._errors, []
        assert all(error.code and error.message for error in errors)
        return [f"{error.code}: {error.message}" for error in errors]

    def _run(self) -> None:
        while not self._stopped.wait(self.pause_seconds):
            try:
                self.request()
                self._answers += 1
            except WindlassError as error:
                self._errors.append(error)
            except BaseException as error:  # noqa: BLE001 - the test thread raises it
                self._unexpected = error
                return


class PredictionLoop(RequestLoop):
    """Predicts with one endpoint."""

    def __init__(self, client: Client, endpoint: str, timeout: float = _TIMEOUT_SECONDS) -> None:
        super().__init__(client, timeout)
        self._endpoint = endpoint

    def request(self) -> None:
        predictions = self.client.endpoints.predict(self._endpoint, _TEXTS)
        assert {each.label for each in predictions} <= {"positive", "negative"}


class SubmissionLoop(RequestLoop):
    """Submits a job and reads it until it has ended, then submits the next one.

    It repeats the submission with the same key before each read: that reads and writes as much as a submission does,
    and the cluster has to run one job at a time.
    """

    pause_seconds = 0.5

    def __init__(self, client: Client, spec: dict[str, Any], timeout: float = _TIMEOUT_SECONDS) -> None:
        super().__init__(client, timeout)
        self._spec = spec
        self.jobs: list[str] = []
        """The ids of the accepted jobs."""
        self._number = 1

    def request(self) -> None:
        name = f"{self._spec['name']}-{self._number}"
        accepted = self.client.jobs.create({**self._spec, "name": name, "model": name}, idempotency_key=name)
        if accepted.id not in self.jobs:
            self.jobs.append(accepted.id)
        assert len(self.jobs) == self._number, "a repeated submission returns the same job"
        if self.client.jobs.get(accepted.id).state == JobState.SUCCEEDED:
            self._number += 1
