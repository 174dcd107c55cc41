"""Tests of smallpond, a folder per part of it."""
