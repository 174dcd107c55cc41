"""Settings: sources, their order, and the refusal of what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from firepond.fs.config import load, rows
from firepond.fs.config.sources import known_keys
from firepond.fs.errors import ConfigInvalid


def test_later_sources_win(tmp_path: Path) -> None:
    """Goal: file < environment < command line. Oracle: values and where they came from."""
    file = tmp_path / "firepond.toml"
    file.write_text('[manager]\nlease_ms = 3000\nreplicas = 2\n[storage]\ndisks = ["/a"]\n')
    environment = {"FIREPOND_MANAGER__LEASE_MS": "4000", "FIREPOND_LOG__LEVEL": "debug"}
    loaded = load(file, environment, ["log.level=error", "storage.disks=/x,/y"])
    assert loaded.settings.manager.lease_ms == 4000
    assert loaded.settings.manager.replicas == 2
    assert loaded.settings.log.level == "error"
    assert loaded.settings.storage.disks == ["/x", "/y"]
    sources = {row.key: row.source for row in rows(loaded)}
    assert sources["manager.replicas"] == f"file {file}"
    assert sources["manager.lease_ms"] == "environment FIREPOND_MANAGER__LEASE_MS"
    assert sources["log.level"] == "command line"
    assert sources["meta.store"] == "default"


@pytest.mark.parametrize(
    ("text", "environment", "assignments", "words"),
    [
        ("[manager]\nlease_m = 1\n", {}, [], ["manager.lease_m", "manager.lease_ms"]),
        ("[managr]\nx = 1\n", {}, [], ["managr", "manager"]),
        ("manager = 3\n", {}, [], ["manager", "table"]),
        ("[manager\n", {}, [], ["TOML"]),
        ("", {"FIREPOND_STORAGE__DISK": "/a"}, [], ["FIREPOND_STORAGE__DISK", "storage.disks"]),
        ("", {"FIREPOND_STORAGE_DISKS": "/a"}, [], ["FIREPOND_STORAGE__DISKS"]),
        ("", {}, ["cluster.managers=nohost"], ["managers", "nohost", "host:port"]),
        ("", {}, ["lease_ms=5000"], ["lease_ms", "manager.lease_ms"]),
        ("", {}, ["manager.lease_ms"], ["section.key=value"]),
        ("", {"FIREPOND_MANAGER__LEASE_MS": "soon"}, [], ["manager.lease_ms", "integer", "soon"]),
        ("", {}, ["manager.lease_ms=600"], ["lease_ms", "heartbeat_ms"]),
        ("", {}, ["meta.chunk_size_bytes=1000000"], ["power of two"]),
        ("", {}, ["node.listen_host=0.0.0.0"], ["advertise_host"]),
        ("", {}, ["manager.replicas=0"], ["manager.replicas", "greater"]),
    ],
)
def test_refusals(
    tmp_path: Path,
    text: str,
    environment: dict[str, str],
    assignments: list[str],
    words: list[str],
) -> None:
    """Goal: what is wrong is named, with what was meant. Oracle: words of the error."""
    file = tmp_path / "firepond.toml"
    file.write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        load(file, environment, assignments)
    for word in words:
        assert word in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """Goal: a file that is not there is an error. Oracle: its name in the error."""
    with pytest.raises(ConfigInvalid, match=r"absent\.toml"):
        load(tmp_path / "absent.toml", {})


def test_foreign_variables_are_left_alone() -> None:
    """Goal: FIREPOND_ADDRESS and the like are no settings. Oracle: all defaults."""
    assert not load(None, {"FIREPOND_ADDRESS": "x", "PATH": "y"}).sources


def test_every_setting_is_documented() -> None:
    """Goal: no setting without its meaning. Oracle: a sentence in each description."""
    for key, field in known_keys().items():
        assert field.description and field.description.endswith("."), key
