"""Tests of what smallpond shows: progress, timelines, plans, profiles, error reports."""
