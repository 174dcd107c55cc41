"""Data frames: lazy tables over files, and the session that makes them."""

from smallpond.dataframe.frame import DataFrame
from smallpond.dataframe.group import GroupedFrame
from smallpond.dataframe.session import Session

__all__ = ["DataFrame", "GroupedFrame", "Session"]
