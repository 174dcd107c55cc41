"""The cluster manager: membership, failure detection, chain states, placement, routing.

Pure parts (no clock, no I/O): `model`, `transitions`, `placement`, `decide`.
Around them: `store`, `leader`, `probe`, `routing`, `controller`, `service`.
"""
