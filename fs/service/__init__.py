"""`firepond serve`: any set of roles in one process, behind one admin port."""
