"""Serves an application on 127.0.0.1 from a thread, with the HTTP server of the product."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from windlass_api.http_server import server_config

_START_SECONDS = 30.0


class _Server(uvicorn.Server):
    """Closes connections that are accepted while it stops; uvicorn leaves them open for the shutdown timeout."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping = asyncio.ensure_future(super().shutdown(sockets))
        while not stopping.done():
            await asyncio.sleep(0.02)
            for connection in list(self.server_state.connections):
                connection.shutdown()
        await stopping


@contextmanager
def serve(app: ASGIApp, port: int = 0, trusted_proxies: str = "") -> Iterator[int]:
    """Serve ``app`` until the block is left, and yield the port; requests that run then are completed."""
    server = _Server(server_config(app, trusted_proxies=trusted_proxies))
    with socket.create_server(("127.0.0.1", port), backlog=100) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), name="http server")
        thread.start()
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                assert time.monotonic() < deadline
                time.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
