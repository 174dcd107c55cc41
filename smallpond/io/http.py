"""Files behind `http://` and `https://`, read by ranges with nothing but the standard library.

fsspec's own needs aiohttp; this one is used where that is not installed. A server must answer
ranged requests, as all object stores and most web servers do; one that does not is an error,
because fetching a whole file for each range would look like a hang. There are no listings, so no
patterns.

This module imports fsspec; only `io.url` imports it, when such a URL is first met.
"""

from __future__ import annotations

import datetime
import email.utils
import time
import urllib.error
import urllib.request
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

TIMEOUT_S = 60
ATTEMPTS_MAX = 4
RETRY_DELAY_S = 0.25
# What a server says when it is busy or restarting; the same request may well succeed later.
TRANSIENT_STATUS = {429, 500, 502, 503, 504}


class HttpFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Read-only files by URL; `headers` go with every request."""

    protocol = ("http", "https")

    def __init__(self, headers: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.headers = dict(headers or {})

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path

    def unstrip_protocol(self, name: str) -> str:
        """The URL itself."""
        return name

    def request(self, url: str, method: str, headers: dict[str, str]) -> Any:
        """One answered request; transient failures are tried again."""
        request = urllib.request.Request(url, headers=self.headers | headers, method=method)
        for attempt in range(ATTEMPTS_MAX):
            try:
                return urllib.request.urlopen(request, timeout=TIMEOUT_S)
            except urllib.error.HTTPError as error:
                if error.code in (404, 410):
                    raise FileNotFoundError(url) from error
                if error.code not in TRANSIENT_STATUS or attempt == ATTEMPTS_MAX - 1:
                    raise OSError(
                        f"'{url}' is answered with {error.code} {error.reason}"
                    ) from error
            except urllib.error.URLError as error:
                if attempt == ATTEMPTS_MAX - 1:
                    raise OSError(f"'{url}' cannot be reached: {error.reason}") from error
            time.sleep(RETRY_DELAY_S * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Size and version of the file."""
        with self.request(path, "HEAD", {}) as answer:
            size = answer.headers.get("Content-Length")
            if size is None:
                raise OSError(
                    f"'{path}' is served without its size, so it cannot be read by ranges"
                )
            return {
                "name": path,
                "size": int(size),
                "type": "file",
                "ETag": answer.headers.get("ETag"),
                "LastModified": answer.headers.get("Last-Modified"),
            }

    def modified(self, path: str) -> datetime.datetime:
        """When the server says that the file changed last; the epoch if it does not say."""
        stamp = self.info(path)["LastModified"]
        if stamp is None:
            return datetime.datetime.fromtimestamp(0, datetime.UTC)
        return email.utils.parsedate_to_datetime(stamp)

    def isdir(self, path: str) -> bool:
        """False: HTTP knows no directories."""
        return False

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """HTTP cannot list."""
        raise OSError(f"'{path}': HTTP has no listings; name each file instead of a pattern")

    def glob(self, path: str, **kwargs: Any) -> Any:
        """The file itself, which is what DuckDB asks for; HTTP cannot match patterns."""
        return self.ls(path) if "*" in path else [path]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> _HttpFile:
        if mode != "rb":
            raise OSError(f"'{path}' can only be read")
        return _HttpFile(self, path, mode, cache_type="readahead", size=self.info(path)["size"])


class _HttpFile(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        asked = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self.fs.request(self.path, "GET", asked) as answer:
            if answer.status != 206 and (start, end) != (0, self.size):
                raise OSError(f"'{self.path}' is on a server that does not answer ranged requests")
            data: bytes = answer.read()
        if len(data) != end - start:
            raise OSError(f"'{self.path}': {len(data)} of {end - start} bytes arrived")
        return data
