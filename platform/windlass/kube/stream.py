"""One open watch: the server's lines as changes, until it ends, breaks, falls silent or is closed."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import urllib3

from windlass.kube.errors import ClusterError, SilentError, UnavailableError, error_of
from windlass.kube.objects import Change


class Stream:
    """Changes as they come. One thread iterates; any other may close."""

    def __init__(self, what: str, answer: urllib3.BaseHTTPResponse) -> None:
        self._what, self._answer = what, answer
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Change]:
        """Yield what changes, until the server ends the watch or ``close`` is called.

        Raises:
            ExpiredError: the version that was watched from is too old; list again.
            SilentError: nothing came, not even a bookmark, for as long as was agreed.
            UnavailableError: the connection broke.
        """
        try:
            buffer = b""
            for chunk in self._answer.stream(amt=None):
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from (self._change(line) for line in lines if line.strip())
        except urllib3.exceptions.ReadTimeoutError as silent:
            raise SilentError(f"{self._what}: {silent}") from silent
        except (urllib3.exceptions.HTTPError, OSError) as broken:
            if not self._closed.is_set():
                raise UnavailableError(f"{self._what}: {broken}") from broken
        finally:
            self._answer.close()

    def close(self) -> None:
        """End the watch; whoever waits for its next change is told that there is none."""
        self._closed.set()
        # what has ended by itself has no socket any more
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._answer.shutdown()

    def _change(self, line: bytes) -> Change:
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError as wrong:
            raise ClusterError(f"{self._what}: the answer is no JSON") from wrong
        if event["type"] == "ERROR":
            raise error_of(self._what, int(event["object"].get("code") or 0), event["object"])
        return Change(event["type"], event["object"])
