"""The command line: `firepond`, one file a command; each is imported when it is called."""

from firepond.fs.cli.main import main

__all__ = ["main"]
