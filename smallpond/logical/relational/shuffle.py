"""All rows in random order."""

from __future__ import annotations

from typing import ClassVar

from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class RandomOrderNode(RelationalNode):
    """Every order of the rows is as likely as another."""

    operation: ClassVar[str] = "random order"

    def query(self) -> Sql:
        return Sql.concat("select * from ", Sql.input(0), "\norder by random()")
