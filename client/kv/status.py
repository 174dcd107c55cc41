"""What became of one key of a batch."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """An outcome that is not an error; errors stand in the list as exception objects."""

    STORED = "stored"
    """The value is published."""

    EXISTS = "exists"
    """The key has a value already; the first writer wins, and ours was not stored."""

    DELETED = "deleted"
    """The key has no value any more."""
