"""Small helpers: splitting, rounding, errors, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallpond.common import (
    ColumnNotFound,
    CorruptFile,
    DataNotFound,
    InjectedFault,
    InvalidArgument,
    NonzeroExitCode,
    OutOfMemory,
    SmallpondError,
    first_value_in_dict,
    get_nth_partition,
    next_power_of_two,
    round_up,
    split_into_cols,
    split_into_rows,
)


@given(st.lists(st.integers(), max_size=60), st.integers(1, 80))
def test_splits_are_complete_and_even(items: list[int], count: int) -> None:
    """Goal: no item lost, none twice, sizes even. Method: any list, any count.
    Oracle: concatenation or interleaving gives the list back; sizes differ by at most one.
    """
    runs = split_into_rows(items, count)
    assert [item for run in runs for item in run] == items
    assert runs == [list(get_nth_partition(items, n, count)) for n in range(count)]
    deals = split_into_cols(items, count)
    assert [deals[i % count][i // count] for i in range(len(items))] == items
    for parts in (runs, deals):
        sizes = [len(part) for part in parts]
        assert len(parts) == count
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


def test_small_numbers() -> None:
    """Goal: the arithmetic of sizes. Method: edges. Oracle: by hand."""
    assert [next_power_of_two(x) for x in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]
    assert [round_up(x, 4) for x in (0, 1, 4, 5, 4.1)] == [0, 4, 4, 8, 8]
    assert first_value_in_dict({}) is None
    assert first_value_in_dict({"a": 1, "b": 2}) == 1


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (DataNotFound, FileNotFoundError),
        (ColumnNotFound, AssertionError),
        (InvalidArgument, ValueError),
        (InvalidArgument, AssertionError),
        (CorruptFile, SmallpondError),
        (InjectedFault, SmallpondError),
        (OutOfMemory, SmallpondError),
        (NonzeroExitCode, SmallpondError),
    ],
)
def test_errors_are_caught_by_both_names(
    error: type[SmallpondError], builtin: type[Exception]
) -> None:
    """Goal: scripts that catch builtins and those that catch ours both work, across processes.
    Method: raise, and pickle. Oracle: the except clause, and the message.
    """
    import pickle

    with pytest.raises(builtin, match="what happened"):
        raise error("what happened")
    again = pickle.loads(pickle.dumps(error("what happened")))
    assert type(again) is error
    assert str(again) == "what happened"


def test_importing_is_light() -> None:
    """Goal: starting a job does not wait for libraries that it may not need.
    Method: import the modules of data sets in a fresh process. Oracle: sys.modules.
    """
    script = (
        "import sys\n"
        "import smallpond.common, smallpond.utility, smallpond.io.arrow\n"
        "import smallpond.io.filesystem, smallpond.logical.udf, smallpond.logical.dataset\n"
        "heavy = {'duckdb', 'numpy', 'pandas', 'polars', 'pyarrow', 'fsspec', 'cloudpickle'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_published_names_are_there() -> None:
    """Goal: `from module import *` of a 0.15 script finds what it used. Oracle: its list."""
    import importlib

    published = {
        "smallpond.common": (
            "KB MB GB TB DEFAULT_MAX_RETRY_COUNT DEFAULT_MAX_FAIL_COUNT MAX_ROW_GROUP_SIZE "
            "MAX_ROW_GROUP_BYTES MAX_NUM_ROW_GROUPS MAX_PARQUET_FILE_BYTES DEFAULT_ROW_GROUP_SIZE "
            "DEFAULT_ROW_GROUP_BYTES DEFAULT_BATCH_SIZE RAND_SEED_BYTE_LEN GENERATED_COLUMNS "
            "DATA_PARTITION_COLUMN_NAME PARQUET_METADATA_KEY_PREFIX INPUT_VIEW_PREFIX "
            "pytest_running clamp_value clamp_row_group_size clamp_row_group_bytes SmallpondError "
            "InjectedFault OutOfMemory NonzeroExitCode first_value_in_dict split_into_cols "
            "split_into_rows get_nth_partition next_power_of_two round_up UDFType udf"
        ),
        "smallpond.logical.dataset": (
            "DataSet PartitionedDataSet FileSet CsvDataSet JsonDataSet ParquetDataSet "
            "SqlQueryDataSet ArrowTableDataSet PandasDataSet has_magic"
        ),
        "smallpond.logical.udf": (
            "UDFType UDFStructType UDFListType UDFMapType UDFAnyParameters UDFContext "
            "PythonUDFContext ExternalModuleContext DuckDbExtensionContext UserDefinedFunction udf"
        ),
        "smallpond.io.arrow": (
            "RowRange convert_type_to_large convert_types_to_large_string "
            "cast_columns_to_large_string filter_schema build_batch_reader_from_files "
            "read_parquet_files_into_table load_from_parquet_files parquet_write_table "
            "dump_to_parquet_files"
        ),
    }
    for module_name, names in published.items():
        found: dict[str, object] = {}
        exec(f"from {module_name} import *", found)
        module = importlib.import_module(module_name)
        for name in names.split():
            assert hasattr(module, name), f"{module_name}.{name}"
            assert name in found or name == "has_magic", f"{module_name}.* lacks {name}"
