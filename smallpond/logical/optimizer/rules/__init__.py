"""Rewrites of the logical plan; each keeps the rows of every plan.

One module a rule. A rule looks at one node whose inputs are done and returns it or a better one.
"""
