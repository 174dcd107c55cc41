"""Nodes that many plans want and that are no part of the engine: copying, logging, web archives."""
