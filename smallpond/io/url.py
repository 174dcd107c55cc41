"""URLs: which paths are URLs, and the fsspec file system behind each.

Everything goes through fsspec, so that one implementation serves footers, Arrow and DuckDB alike.
For `s3` and `gs`, pyarrow's own file systems stand in when s3fs or gcsfs is not installed, for
`http` a small one of ours. `file://` is a local path.

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
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "firepond": "firepond"}


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


def filesystem_for(path: str, storage_options: dict[str, Any] | None = None) -> Any:
    """The fsspec file system that serves a URL; None for a local path."""
    protocol = protocol_of(path)
    if protocol is None or protocol in ("file", "local"):
        return None
    options = {**_authority_options(protocol, path), **(storage_options or {})}
    return _filesystem(protocol, tuple(sorted(options.items())))


def _authority_options(protocol: str, path: str) -> dict[str, Any]:
    """What a URL itself says of its file system: for `firepond://`, where the cluster is."""
    if protocol != "firepond":
        return {}
    address = path.removeprefix("firepond://").partition("/")[0]
    return {"address": address} if address else {}


@lru_cache(maxsize=64)
def _filesystem(protocol: str, options: tuple[tuple[str, Any], ...]) -> Any:
    import fsspec

    try:
        if protocol == "firepond":
            # From a source tree nothing has told fsspec of it.
            import firepond.client.fsspec  # noqa: F401
        return fsspec.filesystem(protocol, **dict(options))
    except ImportError as error:
        substitute = _substitute(protocol, dict(options))
        if substitute is not None:
            return substitute
        package = _PACKAGES.get(protocol, f"the package that serves {protocol}://")
        raise MissingDependency(
            f"{protocol}:// needs {package}: pip install {package} ({error})"
        ) from error
    except ValueError as error:
        raise DataNotFound(
            f"no file system is known for {protocol}://; install the package that brings it "
            f"(fsspec lists the known ones), or mount it and use a path ({error})"
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
    protocol = protocol_of(path)
    names = [str(name) for name in filesystem.glob(path_within(filesystem, path))]
    if protocol == "firepond":
        # Where the cluster is belongs to the URL.
        return sorted(filesystem.unstrip_protocol(name) for name in names)
    prefix = f"{protocol}://"
    return sorted(prefix + name.removeprefix("/") if not is_url(name) else name for name in names)
