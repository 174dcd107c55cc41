"""The log files of a job, through the standard library's logging.

`{exec_id}.log` has everything, `{exec_id}-user.log` what the user's own code logs. Files are opened
at their first line. Only handlers made here are replaced: whoever uses smallpond as a library
keeps the handlers of the root logger.
"""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext

LEVELS = {"TRACE": 5, "SUCCESS": 25}
FILE_BYTES_MAX = 100 * 1024 * 1024
FILE_COUNT = 5
OWN = "smallpond"


def level_number(name: str | int) -> int:
    """The number of a level by its name; the two names that only loguru has are known."""
    if isinstance(name, int):
        return name
    known = logging.getLevelNamesMapping()
    return LEVELS.get(name.upper()) or known.get(name.upper(), logging.INFO)


def _is_own(record: logging.LogRecord) -> bool:
    return record.name == OWN or record.name.startswith(OWN + ".")


def _is_users(record: logging.LogRecord) -> bool:
    return not _is_own(record)


def _file_handler(path: str, rotation: bool) -> logging.Handler:
    if rotation:
        return RotatingFileHandler(
            path, maxBytes=FILE_BYTES_MAX, backupCount=FILE_COUNT, delay=True
        )
    return logging.FileHandler(path, delay=True)


def logs_stop(job_id: str | None = None) -> None:
    """Take away the handlers that logs_start made, for one job or for all."""
    for owner in (logging.getLogger(), logging.getLogger(OWN)):
        for handler in list(owner.handlers):
            made_for = getattr(handler, "smallpond_job", None)
            if made_for is not None and job_id in (None, made_for):
                owner.removeHandler(handler)
                handler.close()


def logs_start(ctx: RuntimeContext, exec_id: str, console: bool = True) -> None:
    """Log into the job's folder, and to stdout what is at least of the console level."""
    logs_stop()
    form = logging.Formatter(
        f"[%(asctime)s] [{exec_id}] [%(processName)s(%(process)d)] "
        "[%(filename)s:%(lineno)d] %(levelname)s %(message)s"
    )
    file_level = level_number(ctx.file_log_level)
    console_level = level_number(ctx.console_log_level)
    rotation = not ctx.disable_log_rotation
    made: list[tuple[logging.Logger, logging.Handler, int]] = []
    own, root = logging.getLogger(OWN), logging.getLogger()
    folders = [ctx.log_root]
    if ctx.shared_log_root is not None:
        os.makedirs(ctx.shared_log_root, exist_ok=True)
        folders.append(ctx.shared_log_root)
    for folder in folders:
        path = os.path.join(folder, f"{exec_id}.log")
        made.append((root, _file_handler(path, rotation), file_level))
    user = _file_handler(os.path.join(ctx.log_root, f"{exec_id}-user.log"), rotation)
    user.addFilter(_is_users)
    made.append((root, user, file_level))
    if console:
        stdout = logging.StreamHandler(sys.stdout)
        stdout.addFilter(_is_own)
        made.append((root, stdout, console_level))
    for owner, handler, level in made:
        handler.setFormatter(form)
        handler.setLevel(level)
        handler.smallpond_job = str(ctx.job_id)  # type: ignore[attr-defined]
        owner.addHandler(handler)
    own.setLevel(min(file_level, console_level))
    root.setLevel(min(root.level or logging.WARNING, max(file_level, logging.INFO)))
