"""Where each task class lives: its module in this package, by class name.

Written by hand: `smallpond.execution.task` resolves names through it without importing operations.
"""

HOMES: dict[str, str] = {
    "ArrowBatchTask": "arrow_stream",
    "ArrowComputeTask": "arrow_compute",
    "ArrowStreamTask": "arrow_stream",
    "DataSinkTask": "sink",
    "DataSourceTask": "source",
    "EvenlyDistributedPartitionProducerTask": "evenly",
    "ExchangeTask": "exchange",
    "ExecSqlQueryMixin": "sql_query",
    "HashPartitionArrowTask": "hash_partition",
    "HashPartitionDuckDbTask": "hash_partition",
    "HashPartitionTask": "hash_partition",
    "LoadPartitionedDataSetProducerTask": "load_partitioned",
    "MergeDataSetsTask": "merge",
    "PandasBatchTask": "arrow_stream",
    "PandasComputeTask": "arrow_compute",
    "PartitionConsumerTask": "partition",
    "PartitionProducerTask": "partition",
    "ProjectionTask": "projection",
    "PythonScriptTask": "python_script",
    "RangePartitionTask": "range_partition",
    "RepeatPartitionProducerTask": "repeat",
    "RootTask": "root",
    "SplitDataSetTask": "split",
    "SqlEngineTask": "sql_engine",
    "StreamOutput": "arrow_stream",
    "UserDefinedPartitionProducerTask": "user_defined",
}
