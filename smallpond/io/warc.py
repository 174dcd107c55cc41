"""WARC files: the web archives that crawlers write (ISO 28500), plain, gzip or zstd.

A record is a line `WARC/1.x`, header lines, an empty line, `Content-Length` bytes and two empty
lines. In gzip and zstd files every record may be a compressed member of its own; members are read
one after the other. For `response` records the content is the body of the HTTP response, with its
transfer and content coding undone, as warcio gives it.

Invariant: a truncated or malformed file raises `CorruptFile`, and never ends early without a word.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

from smallpond.common import KB, MB, CorruptFile, DataNotFound
from smallpond.io.arrow.footer import is_damage
from smallpond.io.url import filesystem_for, path_within

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# A dictionary or other skippable frame may come first.
ZSTD_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"
LINE_BYTES_MAX = 1 * MB
FILE_BUFFER_BYTES = 4 * MB
# Small, because what a decompressor had in hand when it met damage is lost.
READ_BYTES = 64 * KB


@dataclass(frozen=True, slots=True)
class WarcRecord:
    """One record; header names in lower case."""

    headers: dict[str, str]
    content: bytes

    @property
    def kind(self) -> str:
        """`response`, `request`, `warcinfo`, ..."""
        return self.headers.get("warc-type", "")

    @property
    def url(self) -> str:
        """What was fetched."""
        return self.headers.get("warc-target-uri", "").strip("<>")

    @property
    def domain(self) -> str:
        """The host (and port) of the URL."""
        return urlparse(self.url).netloc

    @property
    def date(self) -> str:
        """When, as the archive says it."""
        return self.headers.get("warc-date", "")

    @property
    def is_http(self) -> bool:
        """Whether the content begins with an HTTP head."""
        return self.headers.get("content-type", "").startswith("application/http")

    @property
    def body(self) -> bytes:
        """The content without its HTTP head and codings."""
        return http_body(self.content) if self.is_http else self.content


def read_warc(path: str, filesystem: Any = None) -> Iterator[WarcRecord]:
    """The records of one file."""
    filesystem = filesystem or filesystem_for(path)
    try:
        if filesystem is None:
            source = _open_local(path)
        else:
            source = filesystem.open(path_within(filesystem, path), "rb")
    except FileNotFoundError as error:
        raise DataNotFound(f"'{path}' does not exist") from error
    with source:
        try:
            yield from _records(_decompressed(source), path)
        except (OSError, EOFError, zlib.error) as error:
            around = isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)
            if around and not is_damage(error):
                raise
            raise CorruptFile(f"'{path}' cannot be decompressed: {error}") from error


def _open_local(path: str) -> IO[bytes]:
    return Path(path).open("rb", buffering=FILE_BUFFER_BYTES)


def _decompressed(source: IO[bytes]) -> IO[bytes]:
    magic = source.read(4)
    source.seek(0)
    if magic[:2] == GZIP_MAGIC:
        return gzip.GzipFile(fileobj=source)  # type: ignore[return-value]
    if magic != ZSTD_MAGIC and magic[1:] != ZSTD_SKIPPABLE_MAGIC:
        return source
    import pyarrow

    file = pyarrow.PythonFile(source, mode="r")
    stream: IO[bytes] = pyarrow.CompressedInputStream(file, "zstd")
    return stream


class _Lines:
    """Lines and blocks of a stream that need only have `read`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._held = b""

    def _read(self, size: int) -> bytes:
        read = getattr(self._stream, "read1", self._stream.read)
        return bytes(read(min(size, READ_BYTES)))

    def _fill(self) -> bool:
        more = self._read(READ_BYTES)
        self._held += more
        return bool(more)

    def line(self) -> bytes:
        """The next line with its end; empty at the end of the stream."""
        searched = 0
        while True:
            end = self._held.find(b"\n", searched)
            if end >= 0:
                break
            searched = len(self._held)
            if searched > LINE_BYTES_MAX or not self._fill():
                end = len(self._held) - 1
                break
        found, self._held = self._held[: end + 1], self._held[end + 1 :]
        return found

    def block(self, size: int) -> bytes:
        """The next `size` bytes, or what there is."""
        parts = [self._held[:size]]
        missing = size - len(parts[0])
        self._held = self._held[size:]
        while missing:
            more = self._read(missing)
            if not more:
                break
            parts.append(more)
            missing -= len(more)
        return b"".join(parts)


def _records(stream: IO[bytes], path: str) -> Iterator[WarcRecord]:
    lines = _Lines(stream)
    number = 0
    while True:
        first = lines.line()
        while first in (b"\r\n", b"\n"):
            first = lines.line()
        if not first:
            return
        if not first.startswith(b"WARC/"):
            raise CorruptFile(f"'{path}': record {number} begins with {first[:40]!r}, not 'WARC/'")
        headers = _headers(lines)
        try:
            size = int(headers["content-length"])
        except (KeyError, ValueError) as error:
            raise CorruptFile(f"'{path}': record {number} has no valid length") from error
        content = lines.block(size)
        if len(content) != size:
            raise CorruptFile(
                f"'{path}' ends in the middle of record {number}: "
                f"{len(content)} of {size} bytes are there"
            )
        yield WarcRecord(headers, content)
        number += 1


def _headers(lines: _Lines) -> dict[str, str]:
    headers: dict[str, str] = {}
    name = ""
    while (line := lines.line()) not in (b"\r\n", b"\n", b""):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text[:1] in (" ", "\t") and name:
            headers[name] += " " + text.strip()
            continue
        name, _, value = text.partition(":")
        name = name.strip().lower()
        headers[name] = value.strip()
    return headers


def http_body(content: bytes) -> bytes:
    """The body of an HTTP response, transfer and content coding undone where that is possible."""
    for mark in (b"\r\n\r\n", b"\n\n"):
        head, found, body = content.partition(mark)
        if found:
            break
    else:
        return b""
    headers = {}
    for line in head.split(b"\n")[1:]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip().lower()
    if headers.get(b"transfer-encoding") == b"chunked":
        body = _dechunked(body)
    coding = headers.get(b"content-encoding", b"")
    try:
        if coding in (b"gzip", b"x-gzip"):
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body)
        if coding == b"deflate":
            return _inflated(body)
    except zlib.error:
        # Archives hold bodies that say gzip and are not; they are kept as they came.
        return body
    return body


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error:
        return zlib.decompress(body, -zlib.MAX_WBITS)


def _dechunked(body: bytes) -> bytes:
    """The chunks joined; a body that is not chunked after all comes back as it is."""
    parts: list[bytes] = []
    place = 0
    while place < len(body):
        end = body.find(b"\r\n", place)
        try:
            size = int(body[place:end].split(b";")[0], 16)
        except ValueError:
            return body if not parts else b"".join(parts)
        if size == 0:
            break
        parts.append(body[end + 2 : end + 2 + size])
        place = end + 2 + size + 2
    return b"".join(parts)
