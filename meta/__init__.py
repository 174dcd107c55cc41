"""The metadata service; its engine is native (`meta/native`), its role is in `firepond.fs`.

Owns: the namespace of files and directories. Never: chunks, placement, membership.
"""
