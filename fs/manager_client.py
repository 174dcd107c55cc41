"""Talks to the managers over HTTP: tries each address in turn, turns their errors into ours.

Owns: addresses, fail-over between managers, timeouts, decoding of errors. Thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from firepond.fs.errors import (
    BY_CODE,
    ClusterUnreachable,
    FirepondError,
    Internal,
    ManagerNotLeader,
)

CONNECT_TIMEOUT_S = 1.0


class ManagerClient:
    """The managers of a cluster, as one."""

    def __init__(self, managers: Sequence[str], timeout_s: float = 5.0) -> None:
        assert managers, "at least one address"
        self._managers = [one.removeprefix("http://").removesuffix("/") for one in managers]
        self._timeout_s = timeout_s
        self._first = 0
        # Loopback and cluster addresses are never reached through a proxy.
        self._http = httpx.Client(trust_env=False)

    def get(self, path: str, **parameters: Any) -> Any:
        """GET of JSON."""
        return self.request("GET", path, params=parameters).json()

    def post(self, path: str, body: Any = None) -> Any:
        """POST of JSON."""
        return self.request("POST", path, json=body).json()

    def put(self, path: str, body: Any = None) -> Any:
        """PUT of JSON."""
        return self.request("PUT", path, json=body).json()

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self.request("DELETE", path).json()

    def request(
        self, method: str, path: str, timeout_s: float | None = None, **options: Any
    ) -> httpx.Response:
        """One request to the first manager that answers. Raises FirepondError."""
        timeout = httpx.Timeout(timeout_s or self._timeout_s, connect=CONNECT_TIMEOUT_S)
        failure: FirepondError | None = None
        for turn in range(len(self._managers)):
            at = (self._first + turn) % len(self._managers)
            url = f"http://{self._managers[at]}{path}"
            try:
                response = self._http.request(method, url, timeout=timeout, **options)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                context = {"address": self._managers[at], "reason": str(error) or repr(error)}
                failure = ClusterUnreachable("", context)
                continue
            if response.status_code < 400:
                self._first = at
                return response
            failure = error_from(response)
            if not isinstance(failure, ManagerNotLeader):
                raise failure
        assert failure is not None
        raise failure

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()


def error_from(response: httpx.Response) -> FirepondError:
    """The error that a response carries."""
    try:
        error = response.json()["error"]
        kind = BY_CODE.get(error["code"], Internal)
        return kind(error["message"], error["context"])
    except (ValueError, KeyError, TypeError):
        address = f"{response.url.host}:{response.url.port}"
        context = {"address": address, "status": str(response.status_code)}
        return ClusterUnreachable("what answers there is not a firepond manager", context)
