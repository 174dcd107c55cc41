"""The model test: one reference, compared with everything that claims to be a file system."""
