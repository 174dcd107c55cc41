"""The simulator's Python parts."""
