"""Structured logs: one JSON object a line on standard error, with the keys of the native side.

Owns: the format (`timestamp`, `level`, `event`, `logger`) and the redaction of secrets.
Levels: ERROR and WARNING are for what an operator must see; a peer that died is INFO.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

__all__ = ["configure", "get_logger"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET_WORDS = ("token", "password", "secret", "authorization", "capability")


def configure(level: str) -> None:
    """Starts logging at a level ("debug", "info", "warning", "error") on standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.format_exc_info,
            _redact,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_StandardHandler()]
    root.setLevel(max(_LEVELS[level], logging.INFO))
    # One line a request at INFO would drown what matters.
    for name in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a part, by its dotted name."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(logger=name)
    return logger


def _redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replaces the value of every key whose name says that it is a secret."""
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "[redacted]"
    return event


class _StandardHandler(logging.Handler):
    """Passes records of libraries that use the standard logging module on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        method = {"critical": "error"}.get(level, level)
        fields: dict[str, Any] = {}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        getattr(get_logger(record.name), method)(record.getMessage(), **fields)
