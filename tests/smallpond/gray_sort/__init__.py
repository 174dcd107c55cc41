"""GraySort's generator, its validator, and the sort from end to end."""
