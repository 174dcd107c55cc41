"""Configuration: one frozen `Settings` from a TOML file, the environment and the command line."""

from firepond.fs.config.models import (
    ClusterSettings,
    LogSettings,
    ManagerSettings,
    MetaSettings,
    NodeSettings,
    Settings,
    StorageSettings,
)
from firepond.fs.config.sources import Loaded, SettingRow, load, rows

__all__ = [
    "ClusterSettings",
    "Loaded",
    "LogSettings",
    "ManagerSettings",
    "MetaSettings",
    "NodeSettings",
    "SettingRow",
    "Settings",
    "StorageSettings",
    "load",
    "rows",
]
