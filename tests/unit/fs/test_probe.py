"""What a probe may conclude from what it sees, with real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from firepond.fs.ids import Incarnation, NodeId
from firepond.fs.manager.model import Node
from firepond.fs.manager.probe import ProbeResult, probe, watch

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def node_at(port: int) -> Node:
    return Node(NodeId(1), Incarnation(7), "", f"127.0.0.1:{port}", ("storage",), True)


def answering(content: bytes, status: bytes = b"200 OK") -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n" + content)
        await writer.drain()
        writer.close()

    return answer


async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1)
    writer.close()


async def closing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(answering(b'{"incarnation": 7}'), ProbeResult.ANSWERED, id="this life"),
        pytest.param(answering(b'{"incarnation": 8}'), ProbeResult.GONE, id="another life"),
        pytest.param(closing, ProbeResult.GONE, id="closes at once"),
        pytest.param(None, ProbeResult.GONE, id="refused"),
        pytest.param(silent, ProbeResult.UNANSWERED, id="silent"),
        pytest.param(answering(b"{}"), ProbeResult.UNANSWERED, id="no incarnation"),
        pytest.param(answering(b"["), ProbeResult.UNANSWERED, id="no json"),
        pytest.param(answering(b"", b"500 Oh"), ProbeResult.UNANSWERED, id="an error"),
        pytest.param(answering(b"x" * 200_000), ProbeResult.UNANSWERED, id="too long"),
    ],
)
def test_probe(answer: Answer | None, expected: ProbeResult) -> None:
    """Goal: gone only if it is proved. Method: one server a case. Oracle: the result."""

    async def inside() -> None:
        server = await asyncio.start_server(answer or closing, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if answer is None:
            server.close()
            await server.wait_closed()
        assert await probe(node_at(port), 0.3) is expected
        server.close()

    asyncio.run(inside())


def test_watch_raises_the_alarm_when_the_process_ends() -> None:
    """Goal: a closed connection is noticed at once. Oracle: the alarm, not before the end."""

    async def inside() -> None:
        ends = asyncio.Event()

        async def until_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await ends.wait()
            writer.close()

        server = await asyncio.start_server(until_end, "127.0.0.1", 0)
        alarms: list[Node] = []
        node = node_at(server.sockets[0].getsockname()[1])
        watching = asyncio.create_task(watch(node, alarms.append))
        await asyncio.sleep(0.1)
        assert not alarms
        ends.set()
        await asyncio.wait_for(watching, 2)
        assert alarms == [node]
        server.close()

    asyncio.run(inside())
