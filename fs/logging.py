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
_least = _LEVELS["warning"]
_SECRET_WORDS = ("token", "password", "secret", "authorization", "capability")


def configure(level: str) -> None:
    """Logs from a level on ("debug", "info", "warning", "error"), for a server process.

    Until it is called, as in a program that uses the SDK, only warnings and errors are written, and
    no other library's logging is touched.
    """
    global _least
    _least = _LEVELS[level]
    root = logging.getLogger()
    root.handlers = [_StandardHandler()]
    root.setLevel(max(_least, logging.INFO))
    # One line a request at INFO would drown what matters.
    for name in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a part, by its dotted name. Independent of the program's own structlog."""
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        _StandardError(),
        processors=[
            _drop_unimportant,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.format_exc_info,
            _redact,
            _name,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
        cache_logger_on_first_use=False,
        part=name,
    )
    return logger


class _StandardError:
    """Writes lines to whatever standard error is at the time."""

    def _write(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    debug = info = warning = error = _write


def _drop_unimportant(
    _logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if _LEVELS[method] < _least:
        raise structlog.DropEvent
    return event


def _name(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Gives the key `logger` its name, which structlog's own argument of that name forbids."""
    event["logger"] = event.pop("part")
    return event


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
