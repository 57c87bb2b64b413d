__version__ = "0.2.0"

PROTOCOL = 2
"""What this release speaks: the names of endpoints, what crosses in a call, the requests of the control plane, and what
an archive holds of a stub. A change to any of these gives it another number."""
OLDEST_PROTOCOL = 2
"""The lowest number that this release still understands."""
