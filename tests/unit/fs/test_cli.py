"""The command line: one-line errors, exit codes, a fast start."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import firepond
from firepond.fs.cli import doctor
from firepond.fs.cli.main import MODULES, make_app, run
from firepond.fs.cli.progress import human_bytes
from firepond.fs.cli.status import render


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("up --storage none", 2, ["--storage", "--help"]),
        ("up --storage 1 --replicas 3", 1, ["replicas=3", "storage=1"]),
        ("up --set manager.lease=1", 2, ["manager.lease", "manager.lease_ms"]),
        ("status --bogus", 2, ["--bogus"]),
        ("status --address nowhere", 1, ["firepond://host:port"]),
        ("status --address http://h:1", 1, ["firepond://host:port"]),
        ("status --address firepond://127.0.0.1:1", 1, ["cluster_unreachable", "firepond up"]),
        ("status", 1, ["firepond up"]),
        ("down", 1, ["no cluster was started there"]),
        ("serve --roles king", 2, ["king", "manager, meta, storage"]),
        ("serve --roles ,", 2, ["at least one role"]),
        ("serve", 2, ["--roles"]),
        ("serve --roles manager --config absent.toml", 2, ["absent.toml"]),
        ("admin config --set a.b=1", 2, ["a.b"]),
        ("admin nothing", 2, ["nothing"]),
        ("admin namespaces delete x", 1, ["firepond up"]),
    ],
)
def test_errors_are_one_line(
    line: str,
    code: int,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Goal: what was wrong and what to do, in one line. Oracle: exit code and text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FIREPOND_ADDRESS", raising=False)
    assert run(line.split()) == code
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and output.err.startswith("error: "), output.err
    assert " / next: " in output.err
    for word in words:
        assert word in output.err


@pytest.mark.parametrize("line", ["", "admin", "admin namespaces"])
def test_a_group_alone_shows_its_commands(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: the list can be read. Oracle: the help text with its lines, wrong usage as code."""
    assert run(line.split()) == 2
    output = capsys.readouterr().err
    assert output.startswith("Usage: firepond") and output.count("\n") > 5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: bug reports can name the version. Oracle: the package's."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"firepond {firepond.__version__}\n"


def test_config_prints_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: `admin config` is the reference. Oracle: a changed key with default and source."""
    assert run(["admin", "config", "--set", "manager.lease_ms=3000", "--json"]) == 0
    found = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["manager.lease_ms"]["value"] == 3000
    assert found["manager.lease_ms"]["default"] == 2000
    assert found["manager.lease_ms"]["source"] == "command line"


@pytest.mark.parametrize("command", ["up", "down", "status", "serve", "doctor", "bench", "admin"])
def test_help_of_commands(command: str) -> None:
    """Goal: each command explains itself, quickly. Oracle: exit code, text, time."""
    started = time.monotonic()
    arguments = [command] if command == "bench" else [command, "--help"]
    app = make_app([command])
    if command != "bench":
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0 and "Usage" in result.output
    assert time.monotonic() - started < 2
    assert command in MODULES


def test_doctor_names_a_dead_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: doctor says what is wrong and what to do. Oracle: its finding on a dead address."""
    assert run(["doctor", "--json", "--address", "firepond://127.0.0.1:1"]) == 1
    findings = {one["check"]: one for one in json.loads(capsys.readouterr().out)}
    assert findings["python"]["verdict"] == "ok"
    assert findings["cluster"]["verdict"] == "fail" and findings["cluster"]["next_step"]


def test_doctor_names_sick_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: full and failed disks are seen before a write fails. Oracle: verdicts by disk."""
    sizes = {"free_bytes": 4, "total_bytes": 100}
    disks = [
        {"path": "/full", **sizes, "failed": None},
        {"path": "/roomy", **sizes, "free_bytes": 50, "failed": None},
        {"path": "/broken", **sizes, "failed": "EIO"},
        {"path": "/unheard"},
    ]
    found = {"ready": True, "term": 1, "target_states": {"serving": 3}}
    found["nodes"] = [{"id": 3, "alive": True, "disks": disks}]
    targets = [{"target": 5, "scrub": {"unrepairable_count": 2}}, {"target": 6, "scrub": None}]
    found["chains"] = [{"id": 1, "targets": targets}]

    class Manager:
        def get(self, _path: str) -> dict[str, object]:
            return found

    monkeypatch.setattr(doctor, "manager_client", lambda _address: Manager())
    findings = [(one.verdict, one.seen) for one in doctor.check_cluster(None)]
    assert [verdict for verdict, _ in findings] == ["fail", "ok", "warn", "fail"]
    assert "2 bad chunks of target 5" in findings[0][1]
    assert "/full" in findings[2][1] and findings[3][1] == "EIO"


def test_status_renders_a_sick_cluster() -> None:
    """Goal: the tables show what is wrong. Oracle: words of the rendering."""
    from rich.console import Console

    targets = [
        {"target": 1, "node": 3, "state": "serving", "used_bytes": 2048, "resync": None},
        {"target": 2, "node": 4, "state": "syncing", "used_bytes": 0, "resync": None},
    ]
    resync = {"successor": 2, "chunks_done": 5, "chunks_total": 20, "bytes_moved": 1 << 20}
    targets[0]["resync"] = {**resync, "bytes_total": 4 << 20, "bytes_per_second": 1 << 19}
    targets[0]["resync"]["seconds_left"] = 61.0
    leaving = [{"target": 1, "successor": 2}]
    chain = {"id": 1, "durability": "durable", "version": 4, "targets": targets}
    chain |= {"leaving": leaving, "reordering": False, "preferred": [1, 2]}
    scrub = {"chunks_checked": 77, "bytes_checked": 3 << 20, "bad_count": 2, "repaired_count": 1}
    targets[0]["scrub"] = {**scrub, "unrepairable_count": 1, "last_pass_unix_s": time.time() - 90}
    targets[1]["scrub"] = None
    targets[0]["full"], targets[1]["full"] = False, True
    disk = {"path": "/d0", "engine": "io_uring", "free_bytes": 1, "total_bytes": 2, "failed": "EIO"}
    node = {"id": 3, "roles": ["storage"], "alive": False, "data_address": "a:1"}
    found = {
        "ready": True,
        "waiting_for": None,
        "term": 1,
        "version": 9,
        "target_states": {"serving": 1, "syncing": 1},
        "nodes": [{**node, "admin_address": "a:2", "heartbeat_age_ms": None, "disks": [disk]}],
        "chains": [chain],
        "namespaces": [{"id": 1, "name": "kv", "class": "cache", "capacity_bytes": 1 << 30}],
    }
    console = Console(width=260, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(found))
    text = console.export_text()
    for word in (
        "1 syncing",
        "dead",
        "EIO",
        "5 of 20 chunks",
        "1.0 MiB of 4.0 MiB",
        "1 min 1 s left",
        "3.0 MiB",
        "target 2 is away until its disk has room",
        "1 min 30 s ago",
        "2.0 KiB",
        "1.0 GiB",
    ):
        assert word in text, text


def test_sizes_for_people() -> None:
    """Goal: sizes read well. Oracle: by hand."""
    assert [human_bytes(size) for size in (None, 5, 1536, 3 << 40)] == [
        "",
        "5 B",
        "1.5 KiB",
        "3.0 TiB",
    ]
