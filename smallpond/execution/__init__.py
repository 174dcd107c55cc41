"""Execution: tasks, the scheduler, and the backends that run tasks."""
