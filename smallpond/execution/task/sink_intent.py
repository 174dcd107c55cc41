"""What a sink is about to publish, in the job's own folder: how a resumed job tells done from half.

Durable before the first file appears. One file a task: `{job_root}/config/sinks/{key}.json`.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task


def intent_path(task: Task) -> str:
    """Where the intent of a sink's task is."""
    return os.path.join(task.ctx.config_root, "sinks", f"{task.key}.json")


def intent_write(path: str, intent: dict[str, Any]) -> None:
    """Keep an intent, in place of an earlier one."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.tmp"
    with open(temporary, "w") as file:
        json.dump(intent, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)


def intent_read(path: str) -> dict[str, Any] | None:
    """The intent of an earlier attempt; None without one."""
    try:
        with open(path) as file:
            intent: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return intent
