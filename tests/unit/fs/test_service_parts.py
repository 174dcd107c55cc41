"""Metrics, logs and the local cluster's own checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from firepond.fs import logging
from firepond.fs.errors import ConfigInvalid, InvalidArgument
from firepond.fs.local_cluster import FILE_NAME, LocalCluster
from firepond.fs.service import metrics
from tests.unit.fs.manager_kit import ready

META = {"meta": {"x": 2, "operations": {"lookup": {"count": 4, "failed": 1, "total_us": 50}}}}


def test_metrics_are_prometheus_text() -> None:
    """Goal: a scraper can read it. Oracle: groups with one TYPE line each, escaped labels."""
    manager, _ = ready()
    disk = {"path": 'a"b\\c', "total_bytes": 10, "free_bytes": 4, "failed": None}
    samples = metrics.process_samples(0) + metrics.manager_samples(manager.state, 3)
    samples += metrics.storage_samples(
        {"disks": [disk], "repaired_blocks": 5}
    ) + metrics.meta_samples(META)
    lines = metrics.render(samples).splitlines()
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert 'firepond_disk_free_bytes{disk="a\\"b\\\\c"} 4' in lines
    assert 'firepond_targets{state="serving"} 12' in lines
    assert "firepond_chains_changing 0" in lines
    assert "firepond_manager_term 3" in lines and "firepond_meta_x 2" in lines
    assert "firepond_storage_repaired_blocks_total 5" in lines
    assert 'firepond_meta_operations_total{operation="lookup"} 4' in lines


def test_metrics_show_resyncs_and_the_scrubber() -> None:
    """Goal: every recovery and finding can be plotted. Oracle: the lines, by hand."""
    resync = {"successor": 9, "chunks_done": 3, "chunks_total": 4, "bytes_moved": 5}
    scrub = {"chunks_checked": 6, "bytes_checked": 7, "bad_count": 2, "repaired_count": 1}
    scrub |= {"unrepairable_count": 1, "last_pass_unix_s": 123}
    target = {"target": 8, "chain": 2, "used_bytes": 0, "chunk_count": 0}
    target |= {"local_state": "up-to-date", "resync": resync, "scrub": scrub}
    lines = metrics.render(metrics.storage_samples({"targets": [target]})).splitlines()
    labels = 'target="8",chain="2"'
    for name, value in [("chunks_done", 3), ("chunks_total", 4), ("bytes_moved", 5)]:
        assert f'firepond_resync_{name}{{{labels},successor="9"}} {value}' in lines
    for name, value in [
        ("chunks_checked_total", 6),
        ("bytes_checked_total", 7),
        ("bad_chunks_total", 2),
        ("repaired_chunks_total", 1),
        ("unrepairable_chunks", 1),
        ("last_pass_unix_seconds", 123),
    ]:
        assert f"firepond_scrub_{name}{{{labels}}} {value}" in lines


def test_logs_are_json_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: one JSON object a line, the native side's keys, no secret. Oracle: the line."""
    monkeypatch.setattr(logging, "_least", 20)
    log = logging.get_logger("firepond.test")
    log.debug("not this")
    log.info("it happened", node=3, api_token="abc")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert {"timestamp", "level", "event", "logger"} <= set(line)
    assert line["logger"] == "firepond.test" and line["level"] == "info" and line["node"] == 3
    assert line["api_token"] == "[redacted]"


def test_local_cluster_refuses_nonsense(tmp_path: Path) -> None:
    """Goal: bad settings and files are named. Oracle: the errors."""
    with pytest.raises(InvalidArgument, match="replicas=3"):
        LocalCluster(tmp_path, storage_count=2, replica_count=3)
    with pytest.raises(InvalidArgument, match="storage-3"):
        LocalCluster(tmp_path).process("storage-9")
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(ConfigInvalid, match="not a cluster file"):
        LocalCluster(tmp_path)


def test_foreign_process_is_never_signalled(tmp_path: Path) -> None:
    """Goal: a pid that was used again is not ours. Method: record a live pid with another start.

    Oracle: the process lives on after stop and kill.
    """
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        cluster = LocalCluster(tmp_path)
        cluster._record["processes"]["meta"] = {"pid": sleeper.pid, "start_ticks": 1}
        assert not cluster.process("meta").running
        assert cluster.stop() == []
        cluster.process("meta").kill()
        assert sleeper.poll() is None
        os.kill(sleeper.pid, 0)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_native_logs_have_the_same_keys(tmp_path: Path) -> None:
    """Goal: one query reads the logs of both languages. Method: an engine's own first line.

    Oracle: its keys, and the spelling of its level.
    """
    program = (
        "from firepond import _native\n"
        "_native.logging_init('info')\n"
        f"engine = _native.MetaEngine(1, 1, '127.0.0.1:0', {str(tmp_path)!r},"
        " _native.RoutingHandle(), {'store': 'memory'})\n"
        "engine.start()\n"
        "engine.stop()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    line = json.loads(done.stderr.splitlines()[0])
    assert {"timestamp", "level", "event", "logger", "address"} <= set(line)
    assert line["level"] == "info" and line["logger"].startswith("firepond_meta")
