"""The storage service: chunks, chains of replicas, resync and repair.

Everything that runs once an I/O is native (`firepond._native.StorageEngine`); the process around it
is `firepond.fs.service`. See README.md of this folder.
"""
