"""Our safetensors against the safetensors package, and against broken headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from firepond.client.checkpoint import load_safetensors, parse_header, save_safetensors
from firepond.fs.errors import InvalidArgument
from tests.unit.client.local_cluster_stub import local_cluster


def tensors() -> dict[str, Any]:
    generator = np.random.default_rng(3)
    return {
        "weights": generator.standard_normal((33, 65), dtype=np.float32),
        "half": generator.standard_normal((7,)).astype(np.float16),
        "scalar": np.array(5, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.uint8),
        "flags": np.array([True, False, True]),
        "strided": np.arange(20, dtype=np.int32)[::2],
    }


def require_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_both_ways_with_the_package(tmp_path: Path) -> None:
    """Goal: the format is the package's. Method: each reads the other's. Oracle: equality."""
    cluster = local_cluster(tmp_path)
    size = save_safetensors(cluster, "/ours", tensors(), {"step": "7"})
    assert (tmp_path / "ours").stat().st_size == size
    require_equal(safetensors.numpy.load_file(tmp_path / "ours"), tensors())
    contiguous = {name: np.array(array, order="C") for name, array in tensors().items()}
    safetensors.numpy.save_file(contiguous, tmp_path / "theirs")
    require_equal(load_safetensors(cluster, "/theirs"), tensors())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]


def test_load_into_arrays(tmp_path: Path) -> None:
    """Goal: only the named arrays are filled, in place. Oracle: identity, values, errors."""
    cluster = local_cluster(tmp_path)
    save_safetensors(cluster, "/file", tensors())
    target = np.zeros((33, 65), dtype=np.float32)
    found = load_safetensors(cluster, "/file", {"weights": target})
    assert found["weights"] is target
    np.testing.assert_array_equal(target, tensors()["weights"])
    for name, bad in [
        ("weights", np.zeros((33, 64), np.float32)),
        ("weights", np.zeros((33, 65), np.float64)),
        ("weights", np.zeros((65, 33), np.float32).T),
        ("absent", target),
    ]:
        with pytest.raises(InvalidArgument):
            load_safetensors(cluster, "/file", {name: bad})


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}',
        b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "U8", "shape": [99999999999999999999], "data_offsets": [0, 1]}}',
    ],
)
def test_broken_headers_are_refused(header: bytes) -> None:
    """Goal: a bad header is an error, never memory. Oracle: InvalidArgument."""
    with pytest.raises(InvalidArgument):
        parse_header(header)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_parsed(text: bytes) -> None:
    """Goal: no other exception escapes. Oracle: the type of the error."""
    try:
        parse_header(text)
    except InvalidArgument:
        return
    assert isinstance(json.loads(text), dict)


def test_truncated_file(tmp_path: Path) -> None:
    """Goal: a cut file is refused at every length. Oracle: InvalidArgument."""
    cluster = local_cluster(tmp_path)
    save_safetensors(cluster, "/file", {"a": np.arange(10, dtype=np.uint8)})
    whole = (tmp_path / "file").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(InvalidArgument):
            load_safetensors(cluster, "/cut")
