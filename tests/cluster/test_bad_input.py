"""Nonsense at every entry: a clear error for the sender, no harm to anybody else.

Oracle of every test: the error names what was wrong, and the cluster serves afterwards.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import firepond
from firepond import errors
from tests.fixtures.cluster import TestCluster


def run_command(*arguments: str, env: dict[str, str] | None = None) -> Any:
    line = [sys.executable, "-m", "firepond.fs.cli", *arguments]
    return subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


def assert_serves(cluster: TestCluster) -> None:
    """A write and a read with a new client."""
    with firepond.connect(cluster.address) as client:
        client.write_bytes("/alive", b"yes")
        assert client.read_bytes("/alive") == b"yes"


def data_addresses(cluster: TestCluster) -> list[tuple[str, int]]:
    nodes = [node for node in cluster.status()["nodes"] if node["data_address"]]
    pairs = [node["data_address"].rsplit(":", 1) for node in nodes]
    return [(host, int(port)) for host, port in pairs]


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 4096,
        b"\xff" * 4096,
        random.Random(1).randbytes(100_000),
    ],
    ids=["nothing", "http", "zeros", "ones", "random"],
)
def test_garbage_on_the_wire(cluster: TestCluster, garbage: bytes) -> None:
    """Goal: bytes that are no frame close that connection only. Method: every data port.

    Oracle: the peer closes; one log line that says why; everybody else is served.
    """
    cluster.allow("(?i)frame|magic|connection")
    for address in data_addresses(cluster):
        with socket.create_connection(address, timeout=10) as raw:
            raw.settimeout(10)
            try:
                raw.sendall(garbage)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
            except OSError as error:
                # A peer that closed before it read everything answers with a reset.
                assert not isinstance(error, TimeoutError), "the peer keeps the connection"
    assert_serves(cluster)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/register", b"not json"),
        ("POST", "/v1/register", b"{}"),
        ("POST", "/v1/heartbeat", b'{"node_id": "x"}'),
        ("POST", "/v1/namespaces", b'{"name": "", "class": "gold", "capacity_bytes": -1}'),
        ("GET", "/v1/routing?since=minus&wait_ms=1", b""),
        ("POST", "/v1/suspicions", b'{"suspicions": [[1]]}'),
    ],
)
def test_bad_http(cluster: TestCluster, method: str, path: str, body: bytes) -> None:
    """Goal: a bad request to the manager gets a 4xx that says why. Oracle: status and body."""
    manager = cluster.address.removeprefix("firepond://").split("/")[0]
    response = httpx.request(method, f"http://{manager}{path}", content=body, timeout=10)
    assert 400 <= response.status_code < 500, response.text
    error = response.json()["error"]
    assert error["kind"] and error["message"] and error["next_step"]
    assert_serves(cluster)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-command"], "no-such-command"),
        (["ls", "/", "--address", "firepond://127.0.0.1:1"], "next"),
        (["ls", "/nowhere"], "not_found"),
        (["cat", "/nowhere"], "not_found"),
        (["stat", "relative/path"], "next"),
        (["cp", "/no/such/file", "firepond:/x"], "next"),
        (["serve", "--roles", "king"], "king"),
        (["mount", "firepond://127.0.0.1:1", "/no/such/dir"], "next"),
        (["umount", "/no/such/dir"], "next"),
    ],
)
def test_bad_command_line(cluster: TestCluster, arguments: list[str], words: str) -> None:
    """Goal: a wrong command says what to do. Oracle: exit code, text, no traceback."""
    result = run_command(*arguments, env={"FIREPOND_ADDRESS": cluster.address})
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert words in output, output
    assert "Traceback" not in output, output


def test_bad_configuration(tmp_path: Path) -> None:
    """Goal: an unknown key or a bad value is refused by name. Oracle: exit code 2 and the key."""
    path = tmp_path / "firepond.toml"
    path.write_text("[manager]\nlease_milliseconds = 5\n")
    result = run_command("serve", "--roles", "manager", "--config", str(path))
    assert result.returncode == 2
    assert "lease_milliseconds" in result.stderr and "Traceback" not in result.stderr
    result = run_command("serve", "--roles", "manager", env={"FIREPOND_MANAGER__LEASE_MS": "soon"})
    assert result.returncode == 2
    assert "lease_ms" in result.stderr.lower() and "Traceback" not in result.stderr


def test_bad_calls_of_the_sdk(cluster: TestCluster) -> None:
    """Goal: wrong arguments raise the error that Python programmers expect. Oracle: its class."""
    with firepond.connect(cluster.address) as client:
        with pytest.raises(FileNotFoundError):
            client.open("/absent", "rb")
        with pytest.raises(ValueError):
            client.open("/x", "rq")
        with pytest.raises(errors.NameTooLong):
            client.write_bytes("/" + "x" * 300, b"")
        with pytest.raises((ValueError, errors.InvalidArgument)):
            client.write_bytes("/nul\0byte", b"")
        with pytest.raises(FileNotFoundError):
            client.mkdir("/a/b/c")
        client.makedirs("/dir/sub", exist_ok=True)
        with pytest.raises(errors.DirectoryNotEmpty):
            client.rmdir("/dir")
        with pytest.raises(IsADirectoryError):
            client.open("/dir", "wb")
        with pytest.raises(FileExistsError):
            client.mkdir("/dir")
        file = client.open("/closed", "wb")
        file.close()
        with pytest.raises(ValueError):
            file.write(b"x")
    with pytest.raises(errors.FirepondError):
        firepond.connect("firepond://127.0.0.1:1", timeout_s=1)
    with pytest.raises((ValueError, errors.InvalidArgument)):
        firepond.connect("ftp://somewhere")
    assert_serves(cluster)
