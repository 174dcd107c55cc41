"""Checkpoints in the safetensors format, between NumPy arrays and a cluster.

Owns: the format (github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON
header, then the tensors without gaps. Never: pickles.
A save appears under its name all at once, durable; a load reads straight into the arrays, many
pieces at a time. Every number of a header is checked before memory is allocated by it.
"""

from __future__ import annotations

import importlib
import json
import math
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firepond.client.open_mode import StrPath, path_text
from firepond.client.raw_file import RawFile, SupportsBuffer
from firepond.fs.errors import FirepondError, InvalidArgument, Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firepond.client.cluster import Cluster

    Array = NDArray[Any]

HEADER_MAX_BYTES = 100 << 20
HEADER_ALIGNMENT_BYTES = 64
PIECE_BYTES = 16 << 20
THREAD_COUNT = 4
METADATA_KEY = "__metadata__"
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
    "C64": "<c8",
}
# Types that NumPy has only with the package ml_dtypes.
EXTRA_DTYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a header; offsets are bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def save_safetensors(
    cluster: Cluster,
    path: StrPath,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Saves tensors as a safetensors file; returns its bytes. An older file is replaced at once.

    Raises:
        InvalidArgument: a tensor's type is not in the format.
    """
    arrays = {name: _contiguous(array) for name, array in tensors.items()}
    header = encode_header(arrays, metadata)
    target = path_text(path)
    temporary = f"{target}.{secrets.token_hex(8)}.partial"
    try:
        with cluster.open_raw(temporary, "xb") as file:
            position = file.write(header)
            for array in arrays.values():
                position += file.pwrite(_bytes_of(array), position)
            file.sync()
        cluster.replace(temporary, target)
    except BaseException:
        if cluster.exists(temporary):
            cluster.remove(temporary)
        raise
    return position


def load_safetensors(
    cluster: Cluster, path: StrPath, into: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Loads the tensors of a safetensors file.

    Args:
        into: arrays to fill, by name; only these are loaded. They must have the type and shape that
            the file says and be C-contiguous. Without it all tensors are loaded into new arrays.

    Raises:
        InvalidArgument: not a safetensors file, or `into` does not fit it.
        Unsupported: a type that needs the package ml_dtypes, which is not installed.
    """
    with cluster.open_raw(path) as file:
        infos, base = read_header(file)
        arrays = _targets(infos, into)
        pieces = []
        for info in infos:
            if info.name not in arrays:
                continue
            memory = memoryview(_bytes_of(arrays[info.name]))
            for at in range(0, len(memory), PIECE_BYTES):
                pieces.append((base + info.start + at, memory[at : at + PIECE_BYTES]))
        _read_pieces(cluster, file, pieces)
    return arrays


def _read_pieces(cluster: Cluster, file: RawFile, pieces: list[tuple[int, memoryview]]) -> None:
    """Reads pieces in batches of about `PIECE_BYTES`, several batches at a time."""
    batches: list[list[tuple[object, int, memoryview]]] = []
    room = 0
    for offset, memory in pieces:
        if room < len(memory):
            batches.append([])
            room = PIECE_BYTES
        batches[-1].append((file, offset, memory))
        room -= len(memory)

    def read(batch: list[tuple[object, int, memoryview]]) -> None:
        counts = cluster.read_batch(batch)
        wanted = [len(memory) for _, _, memory in batch]
        if counts != wanted:
            raise InvalidArgument("the file is shorter than its header says", {"path": file.name})

    with ThreadPoolExecutor(THREAD_COUNT, "checkpoint") as pool:
        for _ in pool.map(read, batches):
            pass


def encode_header(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """The length and the JSON header of some arrays, padded so that the tensors are aligned."""
    header: dict[str, Any] = {}
    if metadata:
        header[METADATA_KEY] = dict(metadata)
    start = 0
    for name, array in arrays.items():
        if name == METADATA_KEY:
            raise InvalidArgument("a tensor cannot have this name", {"name": name})
        end = start + array.nbytes
        offsets = [start, end]
        shape = list(array.shape)
        header[name] = {"dtype": _type_name(array), "shape": shape, "data_offsets": offsets}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    padding = -(len(text) + 8) % HEADER_ALIGNMENT_BYTES
    if len(text) + padding > HEADER_MAX_BYTES:
        raise InvalidArgument("too many tensors for one header", {"header_bytes": str(len(text))})
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding


def read_header(file: RawFile) -> tuple[list[TensorInfo], int]:
    """The tensors of a file in the order of their bytes, and where the bytes begin."""
    size = file.stat().st_size
    first = file.pread(8, 0)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(HEADER_MAX_BYTES, size - 8):
        raise _broken(file, "the header's length is out of its range")
    infos = parse_header(file.pread(length, 8), file.name)
    if infos and 8 + length + infos[-1].end != size:
        raise _broken(file, "the file's size is not what its header says")
    return infos, 8 + length


def parse_header(text: bytes, name: str = "") -> list[TensorInfo]:
    """Parses and checks a JSON header; tensors in the order of their bytes.

    Raises:
        InvalidArgument: not a header of the format; gaps and overlaps are refused.
    """
    try:
        header = json.loads(text)
        entries = [(key, value) for key, value in header.items() if key != METADATA_KEY]
        infos = [_tensor_info(key, value) for key, value in entries]
    except FirepondError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidArgument(f"not a safetensors header: {error!r}", {"path": name}) from error
    infos.sort(key=lambda info: (info.start, info.end))
    position = 0
    for info in infos:
        if info.start != position:
            raise InvalidArgument("a gap or overlap between tensors", {"tensor": info.name})
        position = info.end
    return infos


def _tensor_info(name: str, entry: dict[str, Any]) -> TensorInfo:
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = [*shape, start, end]
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        raise InvalidArgument("a number of the header is out of its range", {"tensor": name})
    if len(shape) > 64:
        raise InvalidArgument("too many dimensions", {"tensor": name})
    if end - start != math.prod(shape) * _numpy_type(dtype).itemsize:
        raise InvalidArgument("shape and bytes of a tensor disagree", {"tensor": name})
    return TensorInfo(name, dtype, tuple(shape), start, end)


def _targets(infos: list[TensorInfo], into: Mapping[str, Array] | None) -> dict[str, Array]:
    if into is None:
        return {info.name: np.empty(info.shape, _numpy_type(info.dtype)) for info in infos}
    by_name = {info.name: info for info in infos}
    for name, array in into.items():
        info = by_name.get(name)
        if info is None:
            raise InvalidArgument("the file has no such tensor", {"tensor": name})
        if array.shape != info.shape or array.dtype != _numpy_type(info.dtype):
            wanted = f"{info.dtype}{list(info.shape)}"
            raise InvalidArgument("the array does not fit", {"tensor": name, "wanted": wanted})
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise InvalidArgument("the array is not writable in one piece", {"tensor": name})
    return dict(into)


def _numpy_type(name: str) -> np.dtype[Any]:
    if name in DTYPES:
        return np.dtype(DTYPES[name])
    if name not in EXTRA_DTYPES:
        raise InvalidArgument("no such tensor type", {"dtype": repr(name)})
    try:
        package = importlib.import_module("ml_dtypes")
    except ImportError as error:
        raise Unsupported("the type needs the package ml_dtypes", {"dtype": name}) from error
    found: np.dtype[Any] = np.dtype(getattr(package, EXTRA_DTYPES[name]))
    return found


def _type_name(array: Array) -> str:
    for name, numpy_name in DTYPES.items():
        if array.dtype == np.dtype(numpy_name):
            return name
    for name, extra in EXTRA_DTYPES.items():
        if array.dtype.name == extra:
            return name
    raise InvalidArgument("the format has no such type", {"dtype": str(array.dtype)})


def _contiguous(array: Array) -> Array:
    """The same values, little-endian and C-contiguous; a copy only if they are not yet."""
    little = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    return np.asarray(array, dtype=little, order="C")


def _bytes_of(array: Array) -> SupportsBuffer:
    """The memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


def _broken(file: RawFile, what: str) -> InvalidArgument:
    return InvalidArgument(f"not a safetensors file: {what}", {"path": file.name})
