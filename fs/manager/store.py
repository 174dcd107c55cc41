"""The manager's state in the transactional store: one record an item, one transaction a decision.

Owns: keys and record formats. Why one record an item: a decision writes what it changed.
Invariants: a transaction that writes also reads the leader's term, so that a manager that lost its
term can write nothing; the version in the store only grows; every record starts with its format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Protocol, TypeVar

import msgpack

from firepond.fs.errors import Internal, ManagerNotLeader, StoreCorrupt, TransactionConflict
from firepond.fs.ids import RoutingVersion, Term
from firepond.fs.manager.model import (
    Chain,
    Durability,
    Leaving,
    Member,
    Namespace,
    Node,
    PublicState,
    Rules,
    State,
    Table,
    Target,
)

RECORD_FORMAT = 3
"""Format 1 had no `removed` of a target, and no intents and `served_version` of a chain."""
_PAGE = 500
_ITEM = TypeVar("_ITEM", Node, Target, Chain, Table, Namespace)


class KvTransaction(Protocol):
    """What this module needs of `_native.KvTransaction`."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""

    def range(
        self, start: bytes, end: bytes, limit: int = 1000, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Pairs in key order."""

    def set(self, key: bytes, value: bytes) -> None:
        """Sets a key."""

    def commit(self) -> int:
        """Ends the transaction; durable when it returns."""


class KvStore(Protocol):
    """What this module needs of `_native.KvStore`."""

    def begin(self) -> KvTransaction:
        """Begins a transaction."""

    def close(self) -> None:
        """Closes the store."""


class ManagerStore:
    """The state of a manager that leads in a term."""

    def __init__(self, kv: KvStore, term: Term) -> None:
        self._kv = kv
        self.term = term

    def load(self, rules: Rules) -> State:
        """Everything that was persisted; an empty state at first."""
        transaction = self._kv.begin()
        self._check_term(transaction)
        nodes = [_node(one) for one in _records(transaction, b"node/")]
        targets = [_target(one) for one in _records(transaction, b"target/")]
        chains = [_chain(one) for one in _records(transaction, b"chain/")]
        tables = [_table(one) for one in _records(transaction, b"table/")]
        namespaces = [_namespace(one) for one in _records(transaction, b"namespace/")]
        header = transaction.get(b"header")
        values = _unpack(header) if header is not None else {"version": 0, "node_id_next": 1}
        return State(
            rules=rules,
            version=RoutingVersion(values["version"]),
            node_id_next=values["node_id_next"],
            nodes={one.id: one for one in nodes},
            targets={one.id: one for one in targets},
            chains={one.id: one for one in chains},
            tables={(one.id, one.version): one for one in tables},
            namespaces={one.id: one for one in namespaces},
        )

    def save(self, before: State, after: State) -> None:
        """Writes all that changed, in one transaction. Raises ManagerNotLeader."""
        assert after.version > before.version, "only a changed state is saved"
        transaction = self._kv.begin()
        self._check_term(transaction)
        stored = transaction.get(b"header")
        version = _unpack(stored)["version"] if stored is not None else 0
        if version != before.version:
            raise Internal(
                "the store does not hold the state that was decided from",
                {"stored": str(version), "expected": str(before.version)},
            )
        for key, item in _changed(after, before.version):
            transaction.set(key, _pack(_plain(item)))
        header = {"version": after.version, "node_id_next": after.node_id_next}
        transaction.set(b"header", _pack(header))
        try:
            transaction.commit()
        except TransactionConflict:
            raise ManagerNotLeader("another manager wrote to the store") from None

    def check_term(self) -> None:
        """Raises ManagerNotLeader when a newer term has begun."""
        self._check_term(self._kv.begin())

    def close(self) -> None:
        """Closes the store."""
        self._kv.close()

    def _check_term(self, transaction: KvTransaction) -> None:
        stored = transaction.get(b"term")
        term = _unpack(stored)["term"] if stored is not None else 0
        if term != self.term:
            context = {"term": str(self.term), "newer_term": str(term)}
            raise ManagerNotLeader("a newer manager leads", context)


def take_term(kv: KvStore) -> Term:
    """Begins a new term; every earlier one can write nothing from now on."""
    transaction = kv.begin()
    stored = transaction.get(b"term")
    term = Term((_unpack(stored)["term"] if stored is not None else 0) + 1)
    transaction.set(b"term", _pack({"term": term}))
    transaction.commit()
    return term


def _changed(
    state: State, since: RoutingVersion
) -> Iterator[tuple[bytes, Node | Target | Chain | Table | Namespace]]:
    for node in state.nodes.values():
        if node.stamp > since:
            yield b"node/%08x" % node.id, node
    for target in state.targets.values():
        if target.stamp > since:
            yield b"target/%016x" % target.id, target
    for chain in state.chains.values():
        if chain.stamp > since:
            yield b"chain/%08x" % chain.id, chain
    for table in state.tables.values():
        if table.stamp > since:
            yield b"table/%08x/%08x" % (table.id, table.version), table
    for namespace in state.namespaces.values():
        if namespace.stamp > since:
            yield b"namespace/%08x" % namespace.id, namespace


def _records(transaction: KvTransaction, prefix: bytes) -> Iterator[dict[str, Any]]:
    start, end = prefix, prefix[:-1] + b"0"  # "0" follows "/"
    while True:
        page = transaction.range(start, end, limit=_PAGE)
        for _, value in page:
            yield _unpack(value)
        if len(page) < _PAGE:
            return
        start = page[-1][0] + b"\0"


def _plain(item: Any) -> dict[str, Any]:
    """An item as plain values: enums are strings, members are lists."""
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    if isinstance(item, Chain):
        values["members"] = [
            (one.target, one.node, str(one.state), one.served_version) for one in item.members
        ]
        values["leaving"] = [(one.target, one.successor) for one in item.leaving]
    return {
        name: str(value) if isinstance(value, Durability) else value
        for name, value in values.items()
    }


def _pack(values: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb({"format": RECORD_FORMAT, **values})
    return packed


def _unpack(record: bytes) -> dict[str, Any]:
    try:
        values = msgpack.unpackb(record)
        if values.pop("format") not in range(1, RECORD_FORMAT + 1):
            raise StoreCorrupt("a record of the manager has an unknown format")
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        if isinstance(error, StoreCorrupt):
            raise
        raise StoreCorrupt(f"a record of the manager does not decode: {error}") from None
    found: dict[str, Any] = values
    return found


def _decoder(
    make: Callable[[dict[str, Any]], _ITEM],
) -> Callable[[dict[str, Any]], _ITEM]:
    """Turns the errors of a malformed record into StoreCorrupt."""

    def decode(values: dict[str, Any]) -> _ITEM:
        try:
            return make(values)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorrupt(f"a record of the manager does not decode: {error}") from None

    return decode


@_decoder
def _node(values: dict[str, Any]) -> Node:
    for name in ("roles", "disks", "retired"):
        values[name] = tuple(values[name])
    return Node(**values)


@_decoder
def _target(values: dict[str, Any]) -> Target:
    return Target(**values)


@_decoder
def _chain(values: dict[str, Any]) -> Chain:
    values["members"] = tuple(
        Member(target, node, PublicState(state), *served)  # Since format 3.
        for target, node, state, *served in values["members"]
    )
    values["durability"] = Durability(values["durability"])
    values["leaving"] = tuple(Leaving(*one) for one in values.get("leaving", ()))
    values["preferred"] = tuple(values.get("preferred", ()))
    # Format 1: the newest version that may have served.
    values.setdefault("served_version", values["version"])
    return Chain(**values)


@_decoder
def _table(values: dict[str, Any]) -> Table:
    values["chains"] = tuple(values["chains"])
    return Table(**values)


@_decoder
def _namespace(values: dict[str, Any]) -> Namespace:
    values["durability"] = Durability(values["durability"])
    return Namespace(**values)
