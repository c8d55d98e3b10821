"""A TCP proxy in front of a server, which cuts or stalls the connections through it."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_CHUNK = 1 << 16


class TcpProxy:
    """Forwards connections to a port of this machine to a server.

    Args:
        connect: opens a connection to the server; it runs in the loop of the proxy.
    """

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self._connect = connect
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = self._call(self._start())
        self.cuts = 0
        """Connections that were cut."""

    @classmethod
    def to_port(cls, port: int) -> "TcpProxy":
        """Return a proxy of a port of this machine."""
        return cls(lambda: asyncio.open_connection("127.0.0.1", port))

    @classmethod
    def to_socket(cls, path: str) -> "TcpProxy":
        """Return a proxy of a Unix socket."""
        return cls(lambda: asyncio.open_unix_connection(path))

    def cut(self) -> None:
        """Reset all connections, so that neither side knows whether the other one got its last bytes."""
        self._call(self._cut())

    def stall(self) -> None:
        """Forward nothing until ``resume``: connections are accepted and stay open."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def resume(self) -> None:
        """Forward again, first what has arrived meanwhile."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def close(self) -> None:
        """Cut all connections, and accept none any more."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, step: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(step, self._loop)
        return future.result(30)

    async def _start(self) -> int:
        self._flows.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _stop(self) -> None:
        self._flows.set()
        self._server.close()
        await self._cut()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    async def _cut(self) -> None:
        for writer in list(self._writers):
            connection: socket.socket | None = writer.get_extra_info("socket")
            if connection is not None:
                # with this a close resets the connection and discards what is in its buffer
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            self.cuts += 1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream_writer}
        try:
            await asyncio.gather(self._forward(reader, upstream_writer), self._forward(upstream_reader, writer))
        finally:
            for each in (writer, upstream_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        if not writer.is_closing() and writer.can_write_eof():
            with contextlib.suppress(OSError):
                writer.write_eof()
