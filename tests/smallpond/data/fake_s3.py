"""An S3 server of one bucket in memory: list, head and ranged get, nothing else.

It knows just enough for pyarrow's S3 client to read; signatures are not checked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>
<Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>
<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"""


class _Handler(BaseHTTPRequestHandler):
    objects: dict[str, bytes]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, code: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _list(self, query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        entries, folders = [], set()
        for key, data in sorted(self.objects.items()):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            entries.append(
                f"<Contents><Key>{key}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
                f'<ETag>"1"</ETag><Size>{len(data)}</Size></Contents>'
            )
        entries += [f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in folders]
        count = len(entries)
        return LISTING.format(prefix=prefix, count=count, entries="".join(entries)).encode()

    def _answer(self, with_body: bool) -> None:
        url = urlparse(self.path)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        if not key:
            body = self._list(parse_qs(url.query)) if with_body else b""
            self._send(200, body, {"Content-Type": "application/xml"}, with_body)
        elif key not in self.objects:
            self._send(404, b"", {}, with_body)
        else:
            data = self.objects[key]
            asked = self.headers.get("Range")
            stamp = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "ETag": '"1"'}
            if asked is None:
                self._send(200, data, stamp, with_body)
                return
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1, len(data)) if last else len(data)
            stamp["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
            self._send(206, data[int(first) : end], stamp, with_body)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)


@contextmanager
def serve(objects: dict[str, bytes]) -> Iterator[dict[str, Any]]:
    """Serve the objects of the bucket `bucket`; yields the storage options that reach it."""
    handler = type("Handler", (_Handler,), {"objects": objects})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {
            "endpoint_override": f"127.0.0.1:{server.server_address[1]}",
            "scheme": "http",
            "region": "us-east-1",
            "access_key": "a",
            "secret_key": "b",
        }
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
