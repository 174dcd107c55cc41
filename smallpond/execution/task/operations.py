"""Where each task class lives: its module in this package, by class name.

Written by hand: `smallpond.execution.task` resolves names through it without importing operations.
"""

HOMES: dict[str, str] = {}
