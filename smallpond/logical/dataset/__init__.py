"""Data sets: what a plan reads and what its tasks write.

One module for each kind; the names of smallpond 0.15 and the kinds that it lacked are all
importable from here.
"""

from smallpond.logical.dataset.arrow_file import ArrowFileDataSet
from smallpond.logical.dataset.base import DataSet
from smallpond.logical.dataset.csv import CsvDataSet, rejected_rows
from smallpond.logical.dataset.file_set import FileSet
from smallpond.logical.dataset.json import JsonDataSet
from smallpond.logical.dataset.memory import ArrowTableDataSet, PandasDataSet
from smallpond.logical.dataset.parquet import ParquetDataSet
from smallpond.logical.dataset.partitioned import PartitionedDataSet
from smallpond.logical.dataset.paths import has_magic
from smallpond.logical.dataset.skipped import Skipped, report_skipped
from smallpond.logical.dataset.sql_query import SqlQueryDataSet
from smallpond.logical.dataset.text import TextDataSet
from smallpond.logical.dataset.union import UnionDataSet
from smallpond.logical.dataset.warc import WarcDataSet

__all__ = [
    "ArrowFileDataSet",
    "ArrowTableDataSet",
    "CsvDataSet",
    "DataSet",
    "FileSet",
    "JsonDataSet",
    "PandasDataSet",
    "ParquetDataSet",
    "PartitionedDataSet",
    "Skipped",
    "SqlQueryDataSet",
    "TextDataSet",
    "UnionDataSet",
    "WarcDataSet",
    "has_magic",
    "rejected_rows",
    "report_skipped",
]
