"""Tests of tasks, the scheduler, the journal and the local pool."""
