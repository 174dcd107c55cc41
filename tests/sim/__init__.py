"""The seeded simulator: one seed is one world with its faults, and the same seed the same trace."""
