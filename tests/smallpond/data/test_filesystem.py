"""Pickles in files, removal, mount points."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import pyarrow as pa
import pytest

from smallpond.io.filesystem import (
    PLAIN_PICKLE_BYTES_MAX,
    ZSTD_MAGIC,
    dump,
    find_mount_point,
    load,
    remove_path,
    unpicklable_place,
)


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("value", [1, {"a": [1, None]}, list(range(100_000)), b"x" * 5_000_000])
def test_round_trip(tmp_path: Path, value: Any, atomic: bool) -> None:
    """Goal: what was dumped is loaded, small or large. Oracle: equality; the size on disk."""
    path = str(tmp_path / "x.pickle")
    size = dump(value, path, atomic_write=atomic)
    assert size == os.path.getsize(path)
    assert load(path) == value
    assert os.listdir(tmp_path) == ["x.pickle"]


def test_large_pickles_are_compressed_and_small_ones_are_not(tmp_path: Path) -> None:
    """Goal: both kinds of files, by size. Oracle: the first bytes."""
    path = str(tmp_path / "x")
    dump(b"x" * (PLAIN_PICKLE_BYTES_MAX * 3), path)
    assert Path(path).read_bytes()[:4] == ZSTD_MAGIC
    assert os.path.getsize(path) < 10_000
    dump(b"x", path)
    assert Path(path).read_bytes()[:4] != ZSTD_MAGIC


def test_loads_what_0_15_wrote(tmp_path: Path) -> None:
    """Goal: its files, always zstd, are readable. Method: write one so. Oracle: the object."""
    path = tmp_path / "x"
    data = cloudpickle.dumps({"a": 1})
    path.write_bytes(pa.compress(data, codec="zstd", asbytes=True))
    assert load(str(path)) == {"a": 1}


def test_functions_of_a_script_travel(tmp_path: Path) -> None:
    """Goal: lambdas and closures can be dumped. Oracle: the result of the loaded one."""
    factor = 3
    dump(lambda x: x * factor, str(tmp_path / "f"))
    assert load(str(tmp_path / "f"))(5) == 15


def test_what_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    """Goal: the error says which part it was, and leaves no file behind.
    Method: a lock deep inside. Oracle: the note, the directory.
    """

    class Client:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    value = {"jobs": [1, Client()]}
    assert unpicklable_place(value).startswith("obj['jobs'][1].lock")
    with pytest.raises(TypeError) as caught:
        dump(value, str(tmp_path / "x"), atomic_write=True)
    assert "obj['jobs'][1].lock" in caught.value.__notes__[0]
    assert os.listdir(tmp_path) == []


def test_remove_path(tmp_path: Path) -> None:
    """Goal: files, trees and links go, with what the links point to; the rest stays.
    Oracle: the directory.
    """
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "file").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(tree)
    (tmp_path / "kept").write_text("x")
    (tmp_path / "file").write_text("x")
    remove_path(str(link))
    remove_path(str(tmp_path / "file"))
    remove_path(str(tmp_path / "never"))
    assert os.listdir(tmp_path) == ["kept"]


def test_find_mount_point(tmp_path: Path) -> None:
    """Goal: the mount of a path that need not exist yet. Oracle: ismount, and being a parent."""
    found = find_mount_point(str(tmp_path / "no" / "such"))
    assert os.path.ismount(found)
    assert str(tmp_path).startswith(found)
