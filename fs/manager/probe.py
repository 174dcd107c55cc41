"""Is this life of a node gone? Asked of its admin port, and watched on an idle connection.

Why: a lease only says that a node must have stopped by its end; a refused connection, or another
incarnation answering, says at once that the process is gone. The kernel closes the connections of
a killed process, so that an idle one is the fastest alarm there is.
Never: decides anything. No answer is not a proof of death.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto

from firepond.fs.ids import Incarnation
from firepond.fs.manager.model import Node

_REPLY_MAX_BYTES = 64 * 1024


class ProbeResult(Enum):
    """What a probe showed."""

    ANSWERED = auto()
    GONE = auto()
    UNANSWERED = auto()


async def probe(node: Node, timeout_s: float) -> ProbeResult:
    """Asks the node's admin port who is there."""
    try:
        async with asyncio.timeout(timeout_s):
            incarnation = await _fetch_incarnation(node.admin_address)
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
        return ProbeResult.GONE
    except (OSError, ValueError, TypeError, KeyError, IndexError, asyncio.IncompleteReadError):
        return ProbeResult.UNANSWERED
    return ProbeResult.ANSWERED if incarnation == node.incarnation else ProbeResult.GONE


async def watch(node: Node, alarm: Callable[[Node], None]) -> None:
    """Keeps an idle connection to the node's admin port, and calls `alarm` when it breaks."""
    with suppress(OSError, ValueError):
        host, port = split_address(node.admin_address)
        reader, writer = await asyncio.open_connection(host, port)
        try:
            await reader.read(1)
        finally:
            writer.close()
    alarm(node)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


async def _fetch_incarnation(address: str) -> Incarnation:
    host, port = split_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        request = f"GET /v1/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        reply = await reader.read(_REPLY_MAX_BYTES)
        while reply and (chunk := await reader.read(_REPLY_MAX_BYTES)):
            reply += chunk
            if len(reply) > _REPLY_MAX_BYTES:
                raise ValueError("the answer is too long")
    finally:
        writer.close()
    if not reply:
        raise ConnectionResetError("closed without an answer")
    status, _, rest = reply.partition(b"\r\n")
    if b" 200 " not in status + b" ":
        raise ValueError("not healthy")
    return Incarnation(json.loads(rest.partition(b"\r\n\r\n")[2])["incarnation"])
