"""Plans as people write them: data sets, nodes, functions; no execution."""
