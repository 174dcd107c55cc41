"""Which partition a Parquet file belongs to, and which files a condition leaves."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from smallpond.common import PARQUET_METADATA_KEY_PREFIX, InvalidArgument, SmallpondError
from smallpond.logical.dataset.hive import path_values
from smallpond.logical.dataset.sql import open_connection, quoted_name

if TYPE_CHECKING:
    from smallpond.logical.dataset.parquet import ParquetDataSet

KEY_THREADS_MAX = 32


def partition_key(path: str, column: str, hive_partitioning: bool) -> int | None:
    """The index of the partition that the file belongs to; None for a file without rows or key."""
    if hive_partitioning:
        for name, value in path_values(path):
            if name == column:
                return _parsed(value, path, column)
        raise InvalidArgument(f"there is no '{column}=...' directory in '{path}'")

    from smallpond.io.arrow.footer import read_footer
    from smallpond.io.arrow.reader import open_parquet

    footer = read_footer(path)
    text = footer.key_value_metadata.get(PARQUET_METADATA_KEY_PREFIX + column)
    if text is not None:
        return _parsed(text, path, column)
    if footer.num_rows == 0:
        return None
    if column not in footer.schema.names:
        raise InvalidArgument(
            f"'{path}' has neither the metadata '{PARQUET_METADATA_KEY_PREFIX}{column}' nor a "
            f"column '{column}' (it has {footer.schema.names})"
        )
    with open_parquet(path) as file:
        keys = set(file.read(columns=[column]).column(0).unique().to_pylist())
    if len(keys) != 1:
        raise InvalidArgument(
            f"'{path}' holds several partitions of '{column}': {sorted(map(str, keys))[:5]}"
        )
    key = keys.pop()
    return None if key is None else int(key)


def _parsed(text: str | None, path: str, column: str) -> int:
    try:
        return int(text or "null")
    except ValueError as error:
        raise InvalidArgument(
            f"the partition '{column}' of '{path}' is {text!r} and not a number"
        ) from error


def load_partitions(
    dataset: ParquetDataSet, npartition: int, column: str, hive_partitioning: bool
) -> list[ParquetDataSet]:
    """The data sets of partitions 0 to npartition - 1; those that no file belongs to are empty."""
    ranges = dataset.resolved_row_ranges
    shares: list[list[Any]] = [[] for _ in range(npartition)]
    if ranges:
        with ThreadPoolExecutor(min(KEY_THREADS_MAX, len(ranges))) as pool:
            keys = list(
                pool.map(lambda one: partition_key(one.path, column, hive_partitioning), ranges)
            )
        for one, key in zip(ranges, keys, strict=True):
            if key is None:
                continue
            if not 0 <= key < npartition:
                raise InvalidArgument(
                    f"'{one.path}' is of partition {key} of '{column}', "
                    f"but partitions 0 to {npartition - 1} are asked for"
                )
            shares[key].append(one)
    return [dataset.with_row_ranges(share) for share in shares]


def pruned(dataset: ParquetDataSet, condition: str) -> ParquetDataSet:
    """The files of a hive-partitioned set for which the condition on its keys holds."""
    hive = dataset.hive
    if not hive:
        raise InvalidArgument(f"{dataset} has no hive partitions to prune by")
    combinations: dict[tuple[tuple[str, str | None], ...], list[str]] = {}
    for path in dataset.resolved_paths:
        combinations.setdefault(tuple(path_values(path)), []).append(path)
    groups = list(combinations)
    conn = open_connection()
    fields = ", ".join(f"{quoted_name(name)} {kind}" for name, kind in hive.types.items())
    conn.execute(f"create table partitions (number_ BIGINT, {fields})")
    for number, pairs in enumerate(groups):
        values = [hive.value(name, text) for name, text in pairs]
        marks = ", ".join("?" for _ in range(len(values) + 1))
        conn.execute(f"insert into partitions values ({marks})", [number, *values])
    try:
        rows = conn.execute(f"select number_ from partitions where {condition}").fetchall()
    except Exception as error:
        raise SmallpondError(
            f"cannot prune by ({condition}), the partition columns are {hive.types}: {error}"
        ) from error
    kept = {path for (number,) in rows for path in combinations[groups[number]]}
    if dataset._resolved_row_ranges is not None:
        return dataset.with_row_ranges(
            [one for one in dataset._resolved_row_ranges if one.path in kept]
        )
    twin = copy.copy(dataset)
    twin.reset(sorted(kept), None)
    twin._absolute_paths = twin._resolved_paths = twin.paths
    twin._hive = hive
    return twin
