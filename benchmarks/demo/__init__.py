"""The tour that `make demo` runs: the main job on real input, on a real cluster."""
