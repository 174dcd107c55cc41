"""Files of the engine itself: pickled objects, removal, mount points.

Pickles: plain below 64 KiB, zstd above. Most are far smaller, and compressing those costs more than
it saves (pyarrow, which has the codec, would have to be imported first). `load` tells both apart by
the magic of zstd, so it also reads what smallpond 0.15 wrote, which compressed everything.

Invariant: with `atomic_write` a reader sees the whole file or none.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from smallpond.common import MB
from smallpond.recursion import deep_recursion

logger = logging.getLogger("smallpond.io.filesystem")

HF3FS_MOUNT_POINT_PREFIX = "/hf3fs"
HF3FS_FSSPEC_PROTOCOL = "hf3fs://"

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PLAIN_PICKLE_BYTES_MAX = 64 * 1024
PICKLE_TRACE_DEPTH_MAX = 6


def on_hf3fs(path: str) -> bool:
    """Whether the path is on a mount of 3FS, by its prefix."""
    return path.startswith(HF3FS_MOUNT_POINT_PREFIX)


def extract_hf3fs_mount_point(path: str) -> str | None:
    """The mount point of a path on 3FS; None elsewhere."""
    return "/" + "/".join(path.split("/")[1:3]) if on_hf3fs(path) else None


def remove_path(path: str) -> None:
    """Remove a file or a tree, if it is there; a link together with what it points to."""
    target = os.path.realpath(path)
    if Path(path).is_symlink():
        Path(path).unlink()
    if not os.path.lexists(target):
        return
    logger.debug("removing %s", target)
    if on_hf3fs(target) and _removed_by_server(target):
        return
    if Path(target).is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        Path(target).unlink(missing_ok=True)


def _removed_by_server(target: str) -> bool:
    """3FS removes a whole tree at once when a link to it is put into a magic directory."""
    mount_point = extract_hf3fs_mount_point(target) or "/"
    name = f"{Path(target).name}-{time.time_ns()}"
    try:
        Path(mount_point, "3fs-virt", "rm-rf", name).symlink_to(target)
    except OSError as error:
        logger.debug("removing %s file by file, the server did not: %s", target, error)
        return False
    return True


def find_mount_point(path: str) -> str:
    """The mount point that holds the path."""
    place = os.path.abspath(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return place


class _Unclosable:
    """A file that stays open when a stream on top of it is closed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.closed = False

    def write(self, data: Any) -> int:
        return int(self._file.write(data))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True


class _PickleSink:
    """Keeps a small pickle as it is; compresses from the first byte once it is not small."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.held = bytearray()
        self.compressor: Any = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.compressor is not None:
            self.compressor.write(view)
            return view.nbytes
        self.held += view
        if len(self.held) > PLAIN_PICKLE_BYTES_MAX:
            import pyarrow

            plain = pyarrow.PythonFile(_Unclosable(self.file), mode="w")
            self.compressor = pyarrow.CompressedOutputStream(plain, "zstd")
            self.compressor.write(bytes(self.held))
            self.held.clear()
        return view.nbytes

    def finish(self) -> None:
        if self.compressor is None:
            self.file.write(self.held)
        else:
            self.compressor.close()


@deep_recursion()
def dump(obj: Any, path: str, buffering: int = 2 * MB, atomic_write: bool = False) -> int:
    """Pickle an object into a file; returns the size of the file.

    With `atomic_write` the file appears under its name when it is complete.
    """
    if not atomic_write:
        with open(path, "wb", buffering=buffering) as file:
            return _write_pickle(obj, path, file)
    directory, name = os.path.split(path)
    with tempfile.NamedTemporaryFile(
        "wb", buffering=buffering, dir=directory or ".", prefix=name, delete=False
    ) as file:
        try:
            size = _write_pickle(obj, path, file)
            file.flush()
            Path(file.name).rename(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return size


def _write_pickle(obj: Any, path: str, file: Any) -> int:
    import cloudpickle

    sink = _PickleSink(file)
    try:
        cloudpickle.dump(obj, sink)
    except Exception as error:
        place = unpicklable_place(obj)
        error.add_note(f"while writing {obj!r} to {path}; what cannot be pickled is at {place}")
        raise
    sink.finish()
    return int(file.tell())


def unpicklable_place(obj: Any) -> str:
    """Where in an object the part is that cannot be pickled, such as `obj.client._lock`."""
    import cloudpickle

    def fails(part: Any) -> bool:
        try:
            cloudpickle.dumps(part)
        except Exception:
            return True
        return False

    place = "obj"
    for _ in range(PICKLE_TRACE_DEPTH_MAX):
        for name, part in _parts(obj):
            if fails(part):
                place, obj = place + name, part
                break
        else:
            break
    return f"{place} ({type(obj).__module__}.{type(obj).__qualname__})"


def _parts(obj: Any) -> list[tuple[str, Any]]:
    if isinstance(obj, dict):
        return [(f"[{key!r}]", part) for key, part in obj.items()]
    if isinstance(obj, list | tuple | set | frozenset):
        return [(f"[{index}]", part) for index, part in enumerate(obj)]
    parts = [(f".{name}", part) for name, part in getattr(obj, "__dict__", {}).items()]
    for name, cell in zip(
        getattr(getattr(obj, "__code__", None), "co_freevars", ()),
        getattr(obj, "__closure__", None) or (),
        strict=False,
    ):
        parts.append((f"<closure {name}>", cell.cell_contents))
    return parts


@deep_recursion()
def load(path: str, buffering: int = 2 * MB) -> Any:
    """The object that `dump` (of this engine or of smallpond 0.15) wrote into the file."""
    with open(path, "rb", buffering=buffering) as file:
        compressed = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
        file.seek(0)
        if not compressed:
            return pickle.load(file)
        import pyarrow

        with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd") as stream:
            return pickle.load(stream)
