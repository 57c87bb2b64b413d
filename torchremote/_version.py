"""The version of this package, and of the protocol that it speaks."""

__version__ = "0.2.0"

PROTOCOL = 2
"""The number of the protocol that this release speaks: the names of endpoints, the values that cross in a call, the
requests of the control plane, a stub's part of an archive, and the module and name of every function and class that RPC
pickles, such as owner/lives/leases.py's `Lease`: to move one changes the protocol. A change to any of these needs
another number. But a request to create may get more fields that have a default: see link/protocol.py, Note [Protocols].
"""
OLDEST_PROTOCOL = 2
"""The lowest number of a protocol that this release still understands."""
