"""Tells by torch's words whether the connection to a peer is lost, and which end of it closed it."""

from __future__ import annotations

import re
from typing import Final

IN_TENSORPIPE: Final = "this error originated at tensorpipe/"
# The words of TensorPipe and torch's agents for a lost peer. None of these errors has a type or a code. The last ones
# are of torch's own assertion, which fails if the connection is lost just when a message is to be sent.
LOST: Final = re.compile(
    r"\A[^\n]*(\beof\b|end of file|connection (reset|refused|aborted|closed)|broken pipe|pipe closed|by peer|ECONN|"
    r"EPIPE|shutting down|RPC agent is not set|transport .* error|handshake|outside the thread pool|"
    rf"{IN_TENSORPIPE})",  # after any error in it, TensorPipe gives a connection up
    re.IGNORECASE,
)
CLOSED_HERE: Final = re.compile(
    r"\A[^\n]*((pipe|connection|context) closed|shutting down|RPC agent is not set)", re.IGNORECASE
)
"""The words for what this process closed itself: where it ends RPC, and where it takes a lost worker off its list."""
_REFUSES: Final = re.compile(r"\A[^\n]*ECONNREFUSED")


def is_lost(message: str) -> bool:
    """Says whether torch's message reports that the peer, or the connection to it, is gone."""
    return LOST.search(message) is not None


def is_refused(message: str) -> bool:
    """Says whether torch's message reports that nobody listens at the peer's port, and so that there was no connection.

    The peer may live all the same: see group/listener.py, Note [Deaf workers].
    """
    return _REFUSES.search(message) is not None
