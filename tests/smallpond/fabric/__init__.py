"""Tests of queues, executors, the driver, and the platforms that start them."""
