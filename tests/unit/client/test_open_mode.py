"""Modes and paths of the SDK against Python's own."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from firepond.client.open_mode import parse_mode, path_bytes
from firepond.fs.errors import InvalidArgument, NameTooLong

LETTERS = "rwxabt+"


def every_mode() -> list[str]:
    words = itertools.chain.from_iterable(itertools.permutations(LETTERS, n) for n in range(1, 4))
    return ["".join(word) for word in words] + ["", "rr", "U", "rU", "r w"]


@pytest.mark.parametrize("mode", every_mode())
def test_modes_are_those_of_open(mode: str, tmp_path: Path) -> None:
    """Goal: the same modes are valid, with the same rights. Oracle: the builtin `open`."""
    file = tmp_path / "file"
    if "x" not in mode:
        file.write_bytes(b"abc")
    try:
        with file.open(mode) as opened:
            rights = (opened.readable(), opened.writable(), opened.tell() > 0)
            size = file.stat().st_size
    except ValueError:
        with pytest.raises(InvalidArgument):
            parse_mode(mode)
        return
    parsed = parse_mode(mode)
    assert (parsed.read, parsed.write, parsed.append) == rights
    assert parsed.truncate == (size == 0 and not parsed.exclusive)
    assert parsed.binary == ("b" in mode)


def test_paths() -> None:
    """Goal: any path Python has becomes bytes; bad ones are refused. Oracle: by hand."""
    assert path_bytes("/a/ü") == "/a/ü".encode()
    assert path_bytes(Path("/a")) == b"/a"
    assert path_bytes(b"/\xff") == b"/\xff"
    assert path_bytes("/\udcff") == b"/\xff"
    for bad in ("", "/a\0b", b"\0"):
        with pytest.raises(InvalidArgument):
            path_bytes(bad)
    with pytest.raises(NameTooLong):
        path_bytes("/" + "x/" * 2048)
