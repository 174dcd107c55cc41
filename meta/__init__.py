"""Part of firepond; see README.md of this folder."""
