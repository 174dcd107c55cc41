"""Where `firepond.connect()` looks when nobody says where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import firepond


def test_environment_then_directory_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: the nearest hint wins. Method: take them away one by one. Oracle: the address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".firepond").mkdir()
    file = tmp_path / ".firepond/cluster.json"
    file.write_text(json.dumps({"address": "firepond://127.0.0.1:4711"}))
    monkeypatch.setenv("FIREPOND_ADDRESS", "firepond://elsewhere:1")
    assert firepond.default_address() == "firepond://elsewhere:1"
    monkeypatch.delenv("FIREPOND_ADDRESS")
    assert firepond.default_address() == "firepond://127.0.0.1:4711"
    file.write_text("not json")
    assert firepond.default_address() == firepond.DEFAULT_ADDRESS
    file.unlink()
    assert firepond.default_address() == firepond.DEFAULT_ADDRESS
