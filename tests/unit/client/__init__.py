"""Tests of the SDK without a cluster."""
