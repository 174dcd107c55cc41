"""Measurements and the tour."""
