"""The SDK's file objects against Python's own, over the same local files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.client.local_cluster_stub import local_cluster, raw_of

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(max_size=50)),
        st.tuples(st.just("read"), st.integers(-1, 60)),
        st.tuples(st.just("seek"), st.integers(0, 120)),
        st.tuples(st.just("truncate"), st.none() | st.integers(0, 120)),
        st.tuples(st.just("tell"), st.none()),
        st.tuples(st.just("readline"), st.none()),
        st.tuples(st.just("flush"), st.none()),
    ),
    max_size=20,
)


def outcome(file: Any, step: tuple[str, Any]) -> Any:
    name, argument = step
    try:
        result = getattr(file, name)(*([] if argument is None else [argument]))
    except (OSError, ValueError) as error:
        return io.UnsupportedOperation if isinstance(error, io.UnsupportedOperation) else ValueError
    return None if name == "flush" else result


@given(
    mode=st.sampled_from(["rb", "wb", "ab", "r+b", "w+b", "a+b"]),
    buffering=st.sampled_from([0, -1, 16]),
    steps=STEPS,
)
def test_files_are_pythons_files(
    mode: str, buffering: int, steps: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Goal: our file objects do what Python's do. Method: the same steps on both.

    Oracle: each result, and the bytes at the end.
    """
    root = tmp_path_factory.mktemp("files")
    for name in ("ours", "theirs"):
        (root / name).write_bytes(b"one\ntwo\nthree\n" * 3)
    ours: Any = local_cluster(root).open("/ours", mode, buffering)
    theirs: Any = (root / "theirs").open(mode, buffering)
    with ours, theirs:
        for step in steps:
            assert outcome(ours, step) == outcome(theirs, step), step
    assert (root / "ours").read_bytes() == (root / "theirs").read_bytes()


def test_text_and_rules(tmp_path: Path) -> None:
    """Goal: text, context managers and refusals. Oracle: Python's documented behaviour."""
    cluster = local_cluster(tmp_path)
    with cluster.open("/text", "w", encoding="utf-8", newline="\n") as file:
        print("grün", "blau", sep="\n", file=file)
    with cluster.open("/text", encoding="utf-8") as file:
        assert file.readlines() == ["grün\n", "blau\n"]
        assert raw_of(file).mode == "rb"
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()
        with pytest.raises(io.UnsupportedOperation):
            file.write("no")
    assert file.closed
    with pytest.raises(ValueError):
        file.read()
    with pytest.raises(ValueError):
        cluster.open("/text", "r", 0)
    with pytest.raises(ValueError):
        cluster.open("/text", "rb", encoding="utf-8")
    with pytest.raises(FileExistsError):
        cluster.open("/text", "x")
    raw = cluster.open_raw("/text")
    buffer = bytearray(4)
    assert raw.pread_into(buffer, 1) == 4
    assert raw.pread(3, 1) == bytes(buffer[:3]) and raw.tell() == 0
