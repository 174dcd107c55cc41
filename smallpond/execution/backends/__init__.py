"""Backends that run tasks elsewhere: executors behind file queues, and Ray clusters."""
