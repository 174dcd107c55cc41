"""Registers what all tests share, and the profiles of Hypothesis."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["tests.fixtures.cluster"]

settings.register_profile("fast", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("FIREPOND_HYPOTHESIS_PROFILE", "ci"))
