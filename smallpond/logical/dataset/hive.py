"""Hive partitions: columns whose values stand in the path, as in
`.../year=2025/month=03/x.parquet`.

All files must have the same keys in the same order, else the set is not partitioned. A column is
BIGINT if every value is a whole number that reads back the same, DATE if every value is a date,
else VARCHAR; the types are those of the whole data set, so partitions of it agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from smallpond.common import InvalidArgument

NULL_VALUE = "__HIVE_DEFAULT_PARTITION__"
# DuckDB before 2.0 wrote this instead; where a column is not text, it can mean nothing else.
OLD_NULL_VALUE = "NULL"
_PART = re.compile(r"^([^=/]+)=([^/]*)$")
_INTEGER = re.compile(r"^(0|-?[1-9][0-9]{0,17})$")
_DATE = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")


@dataclass(frozen=True)
class HivePartitions:
    """The keys, and their SQL types by name; empty for a set that is not partitioned."""

    types: dict[str, str] = field(default_factory=dict)
    with_null: frozenset[str] = frozenset()
    """The keys that some file has no value for."""

    def __bool__(self) -> bool:
        return bool(self.types)

    @staticmethod
    def detect(paths: Sequence[str], wanted: bool | None) -> HivePartitions:
        """The keys of the paths; `wanted` True insists on them, False looks for none."""
        if wanted is False or not paths:
            return HivePartitions()
        if wanted is None and not all("=" in path for path in (paths[0], paths[-1])):
            return HivePartitions()
        keys = tuple(name for name, _ in path_values(paths[0]))
        values: dict[str, set[str | None]] = {name: set() for name in keys}
        for path in paths:
            pairs = path_values(path)
            if tuple(name for name, _ in pairs) != keys or not keys:
                if wanted:
                    raise InvalidArgument(
                        f"'{path}' is not partitioned by {list(keys) or 'key=value directories'} "
                        f"as '{paths[0]}' is; read it on its own or without hive_partitioning"
                    )
                return HivePartitions()
            for name, value in pairs:
                values[name].add(value)
        return HivePartitions(
            {name: _type_of(found) for name, found in values.items()},
            frozenset(name for name, found in values.items() if None in found),
        )

    def values(self, path: str) -> dict[str, Any]:
        """The values of one file, as Python has them."""
        return {name: self.value(name, text) for name, text in path_values(path)}

    def value(self, name: str, text: str | None) -> Any:
        """One value of a path, as Python has it."""
        kind = self.types.get(name, "VARCHAR")
        if text is None or (text == OLD_NULL_VALUE and kind != "VARCHAR"):
            return None
        if kind == "BIGINT":
            return int(text)
        if kind == "DATE":
            import datetime

            return datetime.date.fromisoformat(text)
        return text

    def arrow_type(self, name: str) -> Any:
        """The Arrow type of one key."""
        import pyarrow as pa

        kinds = {"BIGINT": pa.int64(), "DATE": pa.date32(), "VARCHAR": pa.large_string()}
        return kinds[self.types[name]]


def path_values(path: str) -> list[tuple[str, str | None]]:
    """The `key=value` directories of a path in their order, values unescaped; None for null."""
    matches = (_PART.match(part) for part in path.split("/")[:-1] if "=" in part)
    # A text that only looks like the mark of null is escaped, so the mark is looked for first.
    return [
        (match[1], None if match[2] == NULL_VALUE else unquote(match[2]))
        for match in matches
        if match
    ]


def _type_of(values: set[str | None]) -> str:
    known = {value for value in values if value is not None and value != OLD_NULL_VALUE}
    if known and all(_INTEGER.match(value) for value in known):
        return "BIGINT"
    if known and all(_DATE.match(value) and _is_date(value) for value in known):
        return "DATE"
    return "VARCHAR"


def _is_date(value: str) -> bool:
    import datetime

    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        return False
    return True
