"""The HTTP servers: uvicorn with limits on the head of a request, which no application code sees before its end."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 10.0
_IDLE_SECONDS = 75
"""Longer than clients and load balancers keep idle connections: a request on one that is being closed fails."""


@dataclass(frozen=True)
class Shutdown:
    """How the servers of a process stop."""

    drain_seconds: float = 0.0
    """How long they go on accepting requests after the signal. Each response closes its connection meanwhile, so that
    clients connect to another replica: a load balancer learns of the end of a pod later than the pod does."""
    request_seconds: int = 5
    """How long requests that are in progress afterwards may take; then they are cancelled."""


class LimitedH11Protocol(H11Protocol):
    """Closes a connection whose request head does not arrive in time.

    The time runs from the first byte of a head, or from the connection for the first one. uvicorn itself ends a
    connection that is idle between requests.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start the timer of the first head, and send each part of a response at once.

        Head and body are separate writes. Nagle's algorithm delays the second one until the client acknowledges the
        first one, which takes 40 ms. asyncio turns it off, but not for listening sockets that it did not open itself.
        """
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the timer runs while they are part of a head."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._cancel_timer()
        elif self._head_timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._cancel_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._time_out)

    def _cancel_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _time_out(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.transport.close()


def server_config(app: ASGIApp, shutdown: Shutdown | None = None, trusted_proxies: str = "") -> uvicorn.Config:
    """Return the configuration of the server.

    Only the proxies of ``trusted_proxies`` may name the client of a request: the audit log has its address.

    h11 has a limit for heads. httptools has none: it collects a header of any length, at a cost that grows with the
    square of it, before the application sees the request.
    """
    return uvicorn.Config(
        app,
        http=LimitedH11Protocol,
        ws="none",
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_config=None,
        access_log=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=(shutdown or Shutdown()).request_seconds,
    )


class ServerGroup:
    """The HTTP servers of one process, each with a listening socket. They start and stop together.

    Args:
        servers: HTTP applications and their listening sockets.
        ready: called when all of them accept requests.
        closing: called when they do not accept requests any more, before they wait for those in progress.
        shutdown: how they stop.
        trusted_proxies: addresses or networks of the proxies whose header X-Forwarded-For names the client.
    """

    def __init__(
        self,
        servers: Sequence[tuple[ASGIApp, socket.socket]],
        *,
        ready: Callable[[], None],
        closing: Callable[[], None],
        shutdown: Shutdown,
        trusted_proxies: str = "",
    ) -> None:
        self._listeners = [listener for _, listener in servers]
        self._servers = [
            _Server(server_config(app, shutdown, trusted_proxies), self._on_started, closing) for app, _ in servers
        ]
        self._starting = len(servers)
        self._ready, self._shutdown = ready, shutdown

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, or until one of the servers fails to start."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle_exit)
        with asyncio.Runner(loop_factory=self._servers[0].config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async def serve(server: uvicorn.Server, listener: socket.socket) -> None:
            try:
                await server.serve([listener])
            finally:
                for each in self._servers:
                    each.should_exit = True

        await asyncio.gather(*map(serve, self._servers, self._listeners))

    def _on_started(self) -> None:
        self._starting -= 1
        if self._starting == 0:
            self._ready()

    def _handle_exit(self, number: int, frame: FrameType | None) -> None:
        """Drain; a second signal ends the drain, and a further SIGINT the requests in progress."""
        drains = self._starting == 0 and self._shutdown.drain_seconds > 0
        for server in self._servers:
            if not (drains and server.drain(self._shutdown.drain_seconds)):
                server.handle_exit(number, frame)


class _Server(uvicorn.Server):
    """Calls ``on_started`` when it accepts requests, and ``closing`` when it does not any more; can drain.

    Its group handles the signals.
    """

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None], closing: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started, self._closing = on_started, closing
        self._drained_at: float | None = None

    def drain(self, seconds: float) -> bool:
        """Close the connection after each response, and stop after some seconds; False if it drains already."""
        if self._drained_at is not None:
            return False
        self._drained_at = time.monotonic() + seconds
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        return True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop."""
        is_drained = self._drained_at is not None and time.monotonic() >= self._drained_at
        return await super().on_tick(counter) or is_drained

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call ``on_started``."""
        await super().startup(sockets)
        if not self.should_exit:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Call ``closing``, then stop."""
        self._closing()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal: uvicorn would install one handler per server, and raise the signal again at the end."""
        yield
