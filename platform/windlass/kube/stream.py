"""One open watch: decodes the response lines into WatchEvents until it ends, breaks, times out or is closed."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import urllib3

from windlass.kube.errors import KubeApiError, KubeUnavailableError, WatchTimeoutError, error_of
from windlass.kube.objects import WatchEvent


class WatchStream:
    """Iterates over the events of a watch. One thread iterates; any other may close."""

    def __init__(self, what: str, response: urllib3.BaseHTTPResponse) -> None:
        self._what, self._response = what, response
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[WatchEvent]:
        """Yield events until the server ends the watch or ``close`` is called.

        Raises:
            ResourceExpiredError: the resourceVersion is too old; list again.
            WatchTimeoutError: nothing was received within the read timeout, not even a bookmark.
            KubeUnavailableError: the connection broke.
        """
        try:
            buffer = b""
            for chunk in self._response.stream(amt=None):
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from (self._decode(line) for line in lines if line.strip())
        except urllib3.exceptions.ReadTimeoutError as timeout:
            raise WatchTimeoutError(f"{self._what}: {timeout}") from timeout
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if not self._closed.is_set():
                raise KubeUnavailableError(f"{self._what}: {error}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the watch; a thread that iterates over it stops."""
        self._closed.set()
        # a watch that has ended has no socket any more
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.shutdown()

    def _decode(self, line: bytes) -> WatchEvent:
        try:
            event: dict[str, Any] = orjson.loads(line)
        except ValueError as error:
            raise KubeApiError(f"{self._what}: the response is not JSON") from error
        if event["type"] == "ERROR":
            raise error_of(self._what, int(event["object"].get("code") or 0), event["object"])
        return WatchEvent(event["type"], event["object"])
