"""Bounds the bodies of requests: one that is too large is refused before it fills the memory.

Why here: FastAPI reads a whole body before any route sees it, and a manager that runs out of memory
takes the cluster's membership with it.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_MAX_BYTES = 64 << 20
"""More than the heartbeat of a node with as many targets as are allowed."""


class BodyLimit:
    """The application behind it never receives more than `body_max_bytes` of a request."""

    def __init__(self, app: ASGIApp, body_max_bytes: int = BODY_MAX_BYTES) -> None:
        self._app = app
        self._body_max_bytes = body_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on; whoever reads too much of it gets an HTTPException."""
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._body_max_bytes:
                raise HTTPException(413, f"a body has at most {self._body_max_bytes} bytes")
            return message

        await self._app(scope, bounded, send)
