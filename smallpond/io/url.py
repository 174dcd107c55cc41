"""URLs: which paths are URLs, and the fsspec file system behind each.

Everything goes through fsspec, so that one implementation serves footers, Arrow and DuckDB alike.
For `s3` and `gs`, pyarrow's own file systems stand in when s3fs or gcsfs is not installed; for
`http`, a small one of ours. `file://` is a local path.

What stands between `//` and the next `/` is for some file systems a part of the path (a bucket),
for others an address that belongs to the instance (the managers of a firepond cluster). Here it is
always kept in the URL, and instances are found by it.

Invariant: a path without a scheme is local and costs no import of fsspec.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from smallpond.common import DataNotFound, MissingDependency

_URL = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.\-]+)(::|://)")
# The protocols that pyarrow itself serves.
_ARROW_PROTOCOLS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
    "firepond": "firepond",
}


def is_url(path: str) -> bool:
    """Whether the path has a scheme, as in `s3://bucket/key`."""
    return _URL.match(path) is not None


def local_path(path: str) -> str:
    """`file:///a` and `local:///a` as `/a`; everything else unchanged."""
    for prefix in ("file://", "local://"):
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path


def protocol_of(path: str) -> str | None:
    """The scheme of a URL; None for a local path."""
    match = _URL.match(path)
    return match[1] if match else None


def authority_of(path: str) -> str:
    """What stands between `//` and the next `/`."""
    return path.partition("://")[2].partition("/")[0]


def filesystem_for(path: str, storage_options: dict[str, Any] | None = None) -> Any:
    """The fsspec file system that serves a URL; None for a local path."""
    protocol = protocol_of(path)
    if protocol is None or protocol in ("file", "local"):
        return None
    options = storage_options or {}
    if "::" in path:
        import fsspec

        return fsspec.core.url_to_fs(path, **options)[0]
    try:
        return _filesystem(protocol, authority_of(path), tuple(sorted(options.items())))
    except TypeError:
        # Options that cannot be a key of a cache, such as dictionaries.
        return _filesystem.__wrapped__(protocol, authority_of(path), tuple(options.items()))


@lru_cache(maxsize=256)
def _filesystem(protocol: str, authority: str, options: tuple[tuple[str, Any], ...]) -> Any:
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(protocol)
        from_url = kind._get_kwargs_from_urls(f"{protocol}://{authority}/")
        return kind(**(from_url | dict(options)))
    except ImportError as error:
        substitute = _substitute(protocol, dict(options))
        if substitute is not None:
            return substitute
        package = _PACKAGES.get(protocol, f"the package that serves {protocol}://")
        raise MissingDependency(
            f"{protocol}:// needs {package}: pip install {package} ({error})"
        ) from error
    except ValueError as error:
        if "not known" not in str(error):
            raise
        package = _PACKAGES.get(protocol, "the package that brings it")
        raise DataNotFound(
            f"no file system is known for {protocol}://; install {package}, or mount it and use a "
            f"path ({error})"
        ) from error


def _substitute(protocol: str, options: dict[str, Any]) -> Any:
    """What can stand in for an fsspec implementation whose package is not installed."""
    if protocol in ("http", "https"):
        from smallpond.io.http import HttpFileSystem

        return HttpFileSystem(**options)
    if protocol not in _ARROW_PROTOCOLS:
        return None
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    kind = _ARROW_PROTOCOLS[protocol]
    maker = getattr(fs, "S3FileSystem" if kind == "s3" else "GcsFileSystem", None)
    if maker is None:
        return None
    # DuckDB finds a registered file system by its protocol; pyarrow knows `s3` and not `s3a`.
    wrapper = type("ArrowFileSystem", (ArrowFSWrapper,), {"protocol": protocol})
    return wrapper(maker(**options))


def path_within(filesystem: Any, path: str) -> str:
    """The path as the file system names it, without the scheme."""
    stripped = filesystem._strip_protocol(path)
    return str(stripped)


def expand_url(path: str, filesystem: Any) -> list[str]:
    """The URLs that match a pattern on a file system, sorted."""
    prefix = f"{protocol_of(path)}://"
    authority = authority_of(path)
    pattern = path_within(filesystem, path)
    if not pattern.lstrip("/").startswith(authority):
        # The file system leaves the address out of its names.
        prefix += authority
    found = (str(name) for name in filesystem.glob(pattern))
    if prefix.endswith("://") and authority:
        found = (name.lstrip("/") for name in found)
    return sorted(name if is_url(name) else prefix + name for name in found)
