"""Ids as distinct types, so that a chain is never taken for a target.

Owns: the names of ids in Python; the native side has the same ones.
Invariant: an id is never used again after its object is gone.
"""

from __future__ import annotations

from typing import NewType

InodeId = NewType("InodeId", int)
"""A file, directory or symbolic link."""

ChunkIndex = NewType("ChunkIndex", int)
"""The position of a chunk in its file."""

ChainId = NewType("ChainId", int)
"""An ordered list of targets that hold the same chunks."""

ChainVersion = NewType("ChainVersion", int)
"""Grows by one with every change of a chain's members, order or states."""

ChainTableId = NewType("ChainTableId", int)
"""A list of chains that file layouts and KV namespaces index."""

ChainTableVersion = NewType("ChainTableVersion", int)
"""Which edition of a chain table a layout was made with."""

TargetId = NewType("TargetId", int)
"""One replica of one chain: a share of one disk."""

NodeId = NewType("NodeId", int)
"""One role of one process that registered with the manager."""

Incarnation = NewType("Incarnation", int)
"""One life of a node: a new random number at each start."""

RoutingVersion = NewType("RoutingVersion", int)
"""Grows with every change of the routing information."""

NamespaceId = NewType("NamespaceId", int)
"""A KV namespace; 24 bits are used."""

Term = NewType("Term", int)
"""Which manager leads: grows by one with every start of a manager."""
