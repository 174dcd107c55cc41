"""Web archives: every way they are written, and every way they are damaged."""

from __future__ import annotations

import errno
import gzip
import io
import zlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from smallpond.common import CorruptFile
from smallpond.io import warc
from smallpond.io.warc import http_body, read_warc
from smallpond.logical.dataset import DataSet, WarcDataSet

BODY = b"<html>\r\n\r\n caf\xc3\xa9 </html>"


def record(kind: str, url: str, content: bytes, mime: str = "application/http") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n"
        f"WARC-Date: 2025-01-02T03:04:05Z\r\nContent-Type: {mime};\r\n msgtype={kind}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def response(body: bytes, *headers: str) -> bytes:
    head = "".join(header + "\r\n" for header in ("HTTP/1.1 200 OK", *headers))
    return head.encode() + b"\r\n" + body


RECORDS = [
    record("warcinfo", "", b"software: x", "application/warc-fields"),
    record("request", "http://a.example/", b"GET / HTTP/1.1\r\n\r\n"),
    record("response", "http://a.example/x", response(BODY)),
    record("response", "https://b.example:8443/y", response(b"", "Content-Type: text/html")),
    record("metadata", "http://a.example/x", b"note", "text/plain"),
]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


FORMS = {
    "plain": b"".join(RECORDS),
    "gzip": gzip.compress(b"".join(RECORDS)),
    "gzip by record": b"".join(map(gzip.compress, RECORDS)),
    "zstd": zstd(b"".join(RECORDS)),
    "zstd by record": b"".join(map(zstd, RECORDS)),
}
EXPECTED = [
    {
        "url": "http://a.example/x",
        "domain": "a.example",
        "date": "2025-01-02T03:04:05Z",
        "content": BODY,
    },
    {
        "url": "https://b.example:8443/y",
        "domain": "b.example:8443",
        "date": "2025-01-02T03:04:05Z",
        "content": b"",
    },
]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_forms(tmp_path: Path, form: str) -> None:
    """Goal: each compression reads the same. Oracle: the responses, through Arrow and SQL."""
    (tmp_path / "x.warc").write_bytes(FORMS[form])
    dataset = WarcDataSet(str(tmp_path / "x.warc"))
    assert [one.kind for one in read_warc(str(tmp_path / "x.warc"))] == [
        "warcinfo",
        "request",
        "response",
        "response",
        "metadata",
    ]
    assert dataset.to_arrow_table().to_pylist() == EXPECTED
    conn = duckdb.connect()
    query = f"select url, content from {dataset.sql_query_fragment(None, conn)} order by url"
    for _ in range(2):
        assert conn.execute(query).fetchall() == [(r["url"], r["content"]) for r in EXPECTED]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_truncated_files(tmp_path: Path, form: str) -> None:
    """Goal: a cut file is an error, or gives what is before the cut and a report when asked.
    Method: cut inside the last record. Oracle: the error; rows and report.
    """
    data = FORMS[form]
    path = tmp_path / "x.warc"
    path.write_bytes(data[: -len("xx\r\n\r\n")] if form == "plain" else data[:-12])
    with pytest.raises(CorruptFile, match=r"x\.warc"):
        WarcDataSet(str(path)).to_arrow_table()
    skipping = WarcDataSet(str(path), ignore_corrupt_files=True)
    assert skipping.num_rows <= 2
    assert list(skipping.skipped_files) == [str(path)]
    if form in ("plain", "gzip by record"):
        assert skipping.to_arrow_table().to_pylist() == EXPECTED


@pytest.mark.parametrize("error", [TimeoutError("no answer"), OSError(errno.EIO, "broken")])
@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_disk_that_fails_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, error: OSError
) -> None:
    """Goal: no record is left out for what is around its file. Oracle: the error."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise error
            return super().read(size)

        read1 = read

    path = tmp_path / "x.warc"
    path.write_bytes(FORMS[form])
    monkeypatch.setattr(warc, "_open_local", lambda path: Failing(FORMS[form]))
    dataset = WarcDataSet(str(path), ignore_corrupt_files=True)
    with pytest.raises(type(error)) as caught:
        dataset.to_arrow_table()
    assert type(caught.value) is type(error)
    assert dataset.skipped_files == {}


def test_what_is_no_archive(tmp_path: Path) -> None:
    """Goal: another file is refused. Oracle: the error."""
    (tmp_path / "x.warc").write_bytes(b"hello\nworld\n")
    with pytest.raises(CorruptFile, match="not 'WARC/'"):
        list(read_warc(str(tmp_path / "x.warc")))


def test_http_codings() -> None:
    """Goal: bodies as the page was, not as it was sent. Oracle: the page, for each coding."""
    packed = gzip.compress(BODY)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (packed[:10], packed[10:]))
    codings = {
        response(BODY): BODY,
        response(packed, "Content-Encoding: gzip"): BODY,
        response(zlib.compress(BODY), "Content-Encoding: deflate"): BODY,
        response(zlib.compress(BODY)[2:-4], "Content-Encoding: deflate"): BODY,
        response(
            chunks + b"0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Encoding: gzip"
        ): BODY,
        response(BODY, "Transfer-Encoding: chunked"): BODY,
        response(BODY, "Content-Encoding: gzip"): BODY,
        b"no head at all": b"",
    }
    for sent, page in codings.items():
        assert http_body(sent) == page


def test_many_files(tmp_path: Path) -> None:
    """Goal: patterns, splitting, merging, columns. Oracle: counts and names."""
    for index in range(4):
        (tmp_path / f"{index}.warc.gz").write_bytes(FORMS["gzip"])
    dataset = WarcDataSet(str(tmp_path / "*.warc.gz"), columns=["domain"])
    assert dataset.num_rows == 8
    parts = dataset.partition_by_files(3)
    assert [part.num_rows for part in parts] == [4, 2, 2]
    assert DataSet.merge(parts).to_arrow_table().column_names == ["domain"]
    assert [b.num_rows for b in dataset.to_batch_reader(3)] == [3, 3, 2]
