"""The reference model by itself: the rules that are easy to get wrong, each by hand."""

from __future__ import annotations

import errno

import pytest

from tests.model.nodes import OpenFlags, Outside
from tests.model.reference import Reference

READ = OpenFlags(read=True)
BOTH = OpenFlags(read=True, write=True, create=True)


@pytest.fixture
def model() -> Reference:
    """A tree with one of each kind."""
    made = Reference()
    made.mkdir(b"d", 0o777)
    made.open(0, b"f", BOTH, 0o666)
    made.write(0, b"hello")
    made.symlink(b"f", b"to-file")
    made.symlink(b"d", b"to-dir")
    made.symlink(b"gone", b"to-nothing")
    made.symlink(b"loop", b"loop")
    return made


REFUSALS: list[tuple[str, tuple[object, ...], int]] = [
    ("mkdir", (b"d", 0o777), errno.EEXIST),
    ("mkdir", (b"f/x", 0o777), errno.ENOTDIR),
    ("mkdir", (b"x/y", 0o777), errno.ENOENT),
    ("mkdir", (b"to-nothing/", 0o777), errno.EEXIST),
    ("mkdir", (b"n" * 256, 0o777), errno.ENAMETOOLONG),
    ("rmdir", (b"f",), errno.ENOTDIR),
    ("rmdir", (b"to-dir/",), errno.ENOTDIR),
    ("rmdir", (b"d/.",), errno.EINVAL),
    ("rmdir", (b"d/..",), errno.ENOTEMPTY),
    ("unlink", (b"d",), errno.EISDIR),
    ("unlink", (b"f/",), errno.ENOTDIR),
    ("unlink", (b"loop/x",), errno.ELOOP),
    ("link", (b"d", b"e"), errno.EPERM),
    ("link", (b"f", b"to-nothing"), errno.EEXIST),
    ("rename", (b"d", b"d/x", "replace"), errno.EINVAL),
    ("rename", (b"d", b"f", "replace"), errno.ENOTDIR),
    ("rename", (b"f", b"d", "replace"), errno.EISDIR),
    ("rename", (b"f", b"d", "no_replace"), errno.EEXIST),
    ("rename", (b"f", b"x/", "replace"), errno.ENOTDIR),
    ("rename", (b"f", b"x", "exchange"), errno.ENOENT),
    ("rename", (b"d/.", b"x", "replace"), errno.EBUSY),
    ("rename", (b"n" * 256, b"x/y", "replace"), errno.ENOENT),
    ("readlink", (b"f",), errno.EINVAL),
    ("readlink", (b"to-dir/",), errno.EINVAL),
    ("readlink", (b"to-file/",), errno.ENOTDIR),
    ("stat", (b"loop",), errno.ELOOP),
    ("stat", (b"to-nothing",), errno.ENOENT),
    ("stat", (b"f/.",), errno.ENOTDIR),
    ("listdir", (b"f",), errno.ENOTDIR),
    ("truncate", (b"d", 0), errno.EISDIR),
    ("access", (b"f", True), errno.EACCES),
    ("open", (1, b"d", READ, 0), errno.EISDIR),
    ("open", (1, b"to-file", OpenFlags(write=True, create=True, exclusive=True), 0), errno.EEXIST),
    ("open", (1, b"f/", READ, 0), errno.ENOTDIR),
    ("open", (1, b"x/", BOTH, 0), errno.EISDIR),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), REFUSALS)
def test_refusals(
    model: Reference, name: str, arguments: tuple[object, ...], expected: int
) -> None:
    """Goal: each refusal has its errno and changes nothing. Oracle: Linux, by hand."""
    before = [(path, node.stat()) for path, node in model.root.walk()]
    with pytest.raises(OSError) as found:
        getattr(model, name)(*arguments)
    assert found.value.errno == expected
    assert [(path, node.stat()) for path, node in model.root.walk()] == before


def test_create_through_a_dangling_link(model: Reference) -> None:
    """Goal: O_CREAT makes what a link leads to. Oracle: the new name."""
    model.open(1, b"to-nothing", BOTH, 0o640)
    assert model.stat(b"gone").mode == 0o640


def test_open_file_outlives_its_names(model: Reference) -> None:
    """Goal: names and open files are apart. Oracle: contents and the link count."""
    model.link(b"f", b"g")
    model.unlink(b"f")
    assert model.fstat(0).link_count == 1
    model.mkdir(b"f", 0o777)
    model.rename(b"g", b"d/f", "replace")
    model.unlink(b"d/f")
    assert model.fstat(0).link_count == 0
    assert model.pread(0, 9, 0) == b"hello"


def test_sparse_append_truncate(model: Reference) -> None:
    """Goal: holes are zeros, appends go to the end. Oracle: the bytes."""
    model.pwrite(0, b"x", 8)
    assert model.pread(0, 99, 0) == b"hello\0\0\0x"
    model.open(1, b"f", OpenFlags(write=True, append=True), 0)
    model.ftruncate(0, 2)
    model.write(1, b"END")
    assert model.pread(0, 99, 0) == b"heEND"
    model.punch_hole(0, 1, 99)
    assert model.pread(0, 99, 0) == b"h\0\0\0\0"
    model.extend(0, 2, 4)
    assert model.fstat(0).size == 6
    assert model.seek(0, -1, 2) == 5 and model.read(0, 9) == b"\0"


def test_rename_moves_and_exchanges(model: Reference) -> None:
    """Goal: link counts and parents follow. Oracle: by hand."""
    model.mkdir(b"d/sub", 0o777)
    model.mkdir(b"e", 0o777)
    model.rename(b"d/sub", b"e", "replace")
    assert (model.stat(b"d").link_count, model.stat(b"e/..").link_count) == (2, 4)
    model.rename(b"e", b"d/x", "replace")
    model.rename(b"d/x", b"f", "exchange")
    assert (model.stat(b"f").kind, model.stat(b"d/x").kind) == ("directory", "file")
    assert (model.stat(b"d").link_count, model.stat(b"f/..").kind) == (2, "directory")
    model.link(b"d/x", b"d/y")
    model.rename(b"d/x", b"d/y", "replace")
    assert model.listdir(b"d") == [b"x", b"y"], "two names of one inode stay"


def test_times_are_intervals_of_steps(model: Reference) -> None:
    """Goal: what is open stays open. Oracle: the intervals."""
    model.truncate(b"f", 5)
    low, high = model.root.entries[b"f"].modified
    assert low < high
    model.truncate(b"f", 6)
    low, high = model.root.entries[b"f"].modified
    assert low == high
    model.utime(b"f", 77, True)
    assert model.root.entries[b"f"].modified_ns == 77


def test_set_id_bits(model: Reference) -> None:
    """Goal: chown takes the bits away that would be dangerous; directories hand theirs down."""
    model.chmod(b"f", 0o6755)
    model.chown(b"f", 7, -1, True)
    assert model.stat(b"f").mode == 0o755
    model.chmod(b"d", 0o2755)
    model.chown(b"d", -1, 9, True)
    model.mkdir(b"d/below", 0o700)
    assert (model.stat(b"d/below").mode, model.stat(b"d/below").gid) == (0o2700, 9)


def test_outside(model: Reference) -> None:
    """Goal: the model keeps silent of what it does not hold. Oracle: its exception."""
    with pytest.raises(Outside):
        model.stat(b"..")
    with pytest.raises(Outside):
        model.stat(b"d/../../x")
