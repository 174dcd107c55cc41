"""Tests of data sets and of files: what is read is what is there, wherever and however it is cut."""
