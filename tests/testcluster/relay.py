"""Forwards every connection to another address. Run as a program: ``relay.py LISTEN TARGET``.

An address is ``unix:PATH``, ``HOST:PORT`` or, to listen on, ``fd:NUMBER`` of an open socket. Two relays joined by a
Unix socket connect a loopback port of the host to the API server, which has no network route from the host.
"""

import asyncio
import contextlib
import socket
import sys

COMMAND = (sys.executable, "-I", __file__)
_CHUNK = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until end of file, then half-close; the other direction stays open."""
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def _dial(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target.removeprefix("unix:"))
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def serve(listen: str, target: str) -> None:
    """Forward connections until killed."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                far_reader, far_writer = await _dial(target)
            except OSError:
                return
            with contextlib.closing(far_writer):
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    if listen.startswith("fd:"):
        server = await asyncio.start_server(connected, sock=socket.socket(fileno=int(listen.removeprefix("fd:"))))
    elif listen.startswith("unix:"):
        server = await asyncio.start_unix_server(connected, listen.removeprefix("unix:"))
    else:
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(connected, host, int(port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2]))
