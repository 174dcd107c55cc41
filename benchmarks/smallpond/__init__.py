"""GraySort's records and their validator, and smallpond measured beside its peers."""
