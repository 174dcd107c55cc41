"""Several managers as one: the next one is asked when one is gone, hangs, or does not lead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from firepond.fs.errors import ClusterUnreachable, InvalidArgument, ManagerNotLeader
from firepond.fs.manager_client import ManagerClient


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """A manager that always gives the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    http.server_close()


def error_body(error: Any) -> bytes:
    return b'{"error": {"code": %d, "message": "no", "context": {}}}' % error.code


def test_a_manager_that_hangs_is_passed_by() -> None:
    """Goal: a frozen manager costs one time-out, once. Method: a port that accepts and is silent.

    Oracle: the answer of the next one; the second request does not wait.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent, server(200, b"[1]") as good:
        client = ManagerClient([f"127.0.0.1:{silent.getsockname()[1]}", good], timeout_s=0.3)
        assert client.get("/v1/x") == [1]
        started = time.monotonic()
        assert client.get("/v1/x") == [1]
        assert time.monotonic() - started < 0.2
        client.close()


def test_a_manager_that_does_not_lead_is_passed_by() -> None:
    """Goal: all are tried before a request fails. Oracle: the leader's answer, or the error."""
    with server(503, error_body(ManagerNotLeader)) as old, server(200, b"[2]") as leader:
        assert ManagerClient([old, leader]).get("/v1/x") == [2]
        with pytest.raises(ManagerNotLeader):
            ManagerClient([old]).get("/v1/x")
        with pytest.raises(ClusterUnreachable):
            ManagerClient([old, "127.0.0.1:1"]).get("/v1/x")


def test_a_refusal_is_final() -> None:
    """Goal: what a leader refuses is not asked of others. Oracle: its error."""
    with (
        server(400, error_body(InvalidArgument)) as strict,
        server(200, b"[3]") as other,
        pytest.raises(InvalidArgument),
    ):
        ManagerClient([strict, other]).get("/v1/x")
