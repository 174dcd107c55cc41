"""firepond: a distributed file system."""
