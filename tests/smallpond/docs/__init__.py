"""The pages of docs/smallpond, run as scripts."""
