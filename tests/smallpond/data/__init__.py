"""Tests of data sets and of files: what is read is what is there, however it is cut."""
