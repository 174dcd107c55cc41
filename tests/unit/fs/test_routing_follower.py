"""The follower against a manager that is a script: a real socket, canned answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgpack
import pytest

from firepond.fs.errors import ClusterNotReady, ClusterUnreachable
from firepond.fs.routing_follower import RoutingFollower

NODE = {"id": 1, "data_address": "h:1", "admin_address": "h:2", "roles": ["meta"]}
CHAIN = {"id": 1, "version": 1, "durability": "durable"}
TARGET = {"target": 1, "node": 1, "state": "serving"}


def message(version: int, full: bool, **items: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"nodes": [], "chains": [], "tables": [], "namespaces": []}
    return {"version": version, "full": full, "lease_ms": 9, "removed": {}, **empty, **items}


READY = message(
    5,
    True,
    nodes=[{**NODE, "incarnation": 1, "alive": True}],
    chains=[{**CHAIN, "targets": [TARGET]}],
    tables=[{"id": 1, "version": 1, "chains": [1]}],
)


class Handle:
    """A routing handle that remembers."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.suspicions: list[list[tuple[int, int]]] = []

    def publish(self, encoded: bytes) -> bool:
        self.published.append(msgpack.unpackb(encoded))
        return True

    def wait_suspicions(self, timeout_ms: int) -> list[tuple[int, int]]:
        if self.suspicions:
            return self.suspicions.pop()
        time.sleep(0.02)
        return []


class Script:
    """What the fake manager answers, by the `since` it is asked for, and what it was told."""

    def __init__(self) -> None:
        self.answers: dict[int, dict[str, Any]] = {}
        self.told: list[Any] = []
        self.asked: list[int] = []
        self.broken = False


@contextmanager
def fake_manager(script: Script, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, content: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            if script.broken:
                self.answer(b"what?", 500)
                return
            since = int(parse_qs(urlsplit(self.path).query)["since"][0])
            script.asked.append(since)
            if since not in script.answers:
                time.sleep(0.2)
            self.answer(msgpack.packb(script.answers.get(since, message(since, False))))

        def do_POST(self) -> None:
            script.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def wait_for(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def test_deltas_become_whole_snapshots() -> None:
    """Goal: the handle gets everything, not only what changed. Oracle: what was published."""
    script, handle = Script(), Handle()
    script.answers = {
        0: READY,
        5: message(6, False, namespaces=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
        6: message(7, False, removed={"namespaces": [1]}),
    }
    with fake_manager(script) as address:
        follower = RoutingFollower([address], handle)
        follower.start()
        follower.wait_ready(5)
        wait_for(lambda: len(handle.published) == 3)
        follower.stop()
    assert [one["version"] for one in handle.published] == [5, 6, 7]
    assert "full" not in handle.published[0] and "removed" not in handle.published[0]
    assert handle.published[2]["chains"] == READY["chains"]
    assert handle.published[2]["namespaces"] == [{"id": 2, "name": "b"}]


def test_suspicions_are_forwarded() -> None:
    """Goal: who cannot be reached is reported, once each. Oracle: what the manager was told."""
    script, handle = Script(), Handle()
    script.answers = {0: READY}
    handle.suspicions = [[(3, 30), (3, 30), (4, 40)]]
    with fake_manager(script) as address:
        follower = RoutingFollower([address], handle)
        follower.start()
        wait_for(lambda: bool(script.told))
        follower.stop()
    assert script.told == [{"suspicions": [[3, 30], [4, 40]]}]


def test_unreachable_and_not_ready_are_told_apart() -> None:
    """Goal: the error says what to do. Oracle: its class, and what the cluster lacks."""
    follower = RoutingFollower(["127.0.0.1:1"], Handle())
    with pytest.raises(ClusterUnreachable, match="firepond up"):
        follower.wait_ready(0.3)
    follower.stop()
    script = Script()
    script.answers = {0: message(1, True)}
    with fake_manager(script) as address:
        follower = RoutingFollower([address], Handle())
        with pytest.raises(ClusterNotReady, match="not enough storage processes"):
            follower.wait_ready(0.3)
        follower.stop()


def test_another_manager_is_asked() -> None:
    """Goal: one dead address of several does no harm. Oracle: readiness."""
    script = Script()
    script.answers = {0: READY}
    with fake_manager(script) as address:
        follower = RoutingFollower(["127.0.0.1:1", address], Handle())
        follower.wait_ready(5)
        follower.stop()


def test_follows_again_after_nonsense() -> None:
    """Goal: a broken answer is survived. Oracle: readiness once the manager is well."""
    script = Script()
    script.broken = True
    script.answers = {0: READY}
    with fake_manager(script) as address:
        follower = RoutingFollower([address], Handle())
        with pytest.raises(ClusterUnreachable, match="not a firepond manager"):
            follower.wait_ready(0.3)
        script.broken = False
        follower.wait_ready(5)
        follower.stop()
    assert script.asked[0] == 0
