"""Copies of the input, as a whole or batch by batch: to turn files into other files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from smallpond.logical.node import ArrowComputeNode, ArrowStreamNode

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("smallpond.contrib")


class CopyArrowTable(ArrowComputeNode):
    """Loads each partition and writes it again."""

    def process(self, runtime_ctx: Any, input_tables: list[pa.Table]) -> pa.Table:
        """The first input as it is."""
        logger.info("copying a table of %d rows", input_tables[0].num_rows)
        return input_tables[0]


class StreamCopy(ArrowStreamNode):
    """Writes each partition again without ever holding all of it."""

    def process(
        self, runtime_ctx: Any, input_readers: list[pa.RecordBatchReader]
    ) -> Iterable[pa.Table]:
        """The batches of the first input as tables."""
        return _tables(input_readers[0])


def _tables(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    import pyarrow as pa

    for batch in reader:
        logger.debug("copying a batch of %d rows", batch.num_rows)
        yield pa.Table.from_batches([batch])
