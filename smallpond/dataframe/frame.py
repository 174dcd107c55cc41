"""The data frame: a lazy table, which is a logical plan and the session that can run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smallpond.dataframe.partitioned import PartitionedOperations
from smallpond.dataframe.relational import RelationalOperations
from smallpond.dataframe.results import Results
from smallpond.dataframe.sinks import Sinks

if TYPE_CHECKING:
    import pyarrow as arrow

    from smallpond.dataframe.session import Session
    from smallpond.logical.dataset import DataSet
    from smallpond.logical.node import Node
    from smallpond.logical.optimizer.optimizer import Optimizer


class DataFrame(PartitionedOperations, RelationalOperations, Sinks, Results):
    """A table of rows and columns, divided into partitions, computed when results are asked for.

    Operations of `partitioned` work on each partition and keep them; those of `relational` work on
    the whole table. Both return a new frame at once.
    """

    def __init__(self, session: Session, plan: Node, recompute: bool = False) -> None:
        self.session = session
        self.plan = plan
        self.optimized_plan: Node | None = None
        self.optimizer: Optimizer | None = None
        self.need_recompute = recompute
        session._nodes.append(plan)

    def __str__(self) -> str:
        return repr(self.plan)

    def _derived(self, plan: Node) -> DataFrame:
        return DataFrame(self.session, plan, recompute=self.need_recompute)

    def _compute(self) -> list[DataSet]:
        """The data sets of the partitions, computed if they are not."""
        from smallpond.dataframe.run import computed

        return computed(self.session, [self])[0]

    def compute(self) -> None:
        """Compute the table now. Its files serve all frames that build on it."""
        self._compute()

    def cache(self) -> DataFrame:
        """This frame, computed: what builds on it reads its files."""
        self._compute()
        return self

    persist = cache

    def is_computed(self) -> bool:
        """Whether the table's files are there."""
        return self.plan.id in self.session._results

    def recompute(self) -> DataFrame:
        """Compute the table again even when an earlier run of the job has it."""
        self.need_recompute = True
        return self

    def schema(self) -> arrow.Schema:
        """Names and types of the columns.

        Found without running anything, unless Python code decides them: then the frame is computed.
        """
        from smallpond.dataframe.schemas import known_schema
        from smallpond.logical.optimizer.schema import arrow_schema

        return arrow_schema(known_schema(self))

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        from smallpond.dataframe.schemas import known_schema

        return [name for name, _ in known_schema(self)]

    @property
    def dtypes(self) -> dict[str, str]:
        """The DuckDB type of each column."""
        from smallpond.dataframe.schemas import known_schema

        return dict(known_schema(self))

    @property
    def num_partitions(self) -> int:
        """Into how many partitions the user divided the table."""
        from smallpond.logical.optimizer.lower import partition_count

        return partition_count(self.plan)

    def explain(self, optimized: bool = True) -> str:
        """The plan as text: what was asked, what the optimiser made of it and why, and, after a
        run, what each step cost."""
        from smallpond.dataframe.explain import explained

        return explained(self, optimized)
