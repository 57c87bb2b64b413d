"""Two releases of torchremote that meet: in one group, or one in an archive of the other's.

Note [Protocols]
    A release speaks one protocol, and understands those from `OLDEST_PROTOCOL` on (_version.py). Two releases that
    meet speak the lower of their two numbers. The number is part of the names of endpoints, so a caller reaches only
    endpoints that it understands. A release that also understands an older number compiles endpoints under that number
    for callers that speak it. The requests of the control plane begin with both numbers, and their parts are plain
    values, so that an owner can refuse a request that it could not read.
"""

from __future__ import annotations

from .._version import OLDEST_PROTOCOL, PROTOCOL, __version__
from ..errors import ProtocolError

SPOKEN = (PROTOCOL, OLDEST_PROTOCOL)
"""What this process speaks, as requests begin with it."""
_FIRST_RELEASES = {1: "torchremote 0.1.0"}


def check_protocol(protocol: int, oldest: int, whose: str) -> None:
    """Sees whether this process and another one understand each other.

    Args:
        protocol, oldest: what the other one speaks, and the lowest that it understands.
        whose: what an error calls it, such as "the caller".

    Raises:
        ProtocolError: they do not.
    """
    if protocol < OLDEST_PROTOCOL or oldest > PROTOCOL:
        raise ProtocolError(
            f"{whose} speaks protocol {protocol}{_from(oldest, protocol)}, and this process {PROTOCOL}"
            f"{_from(OLDEST_PROTOCOL, PROTOCOL)}; run the same release of torchremote on both (here: {__version__})"
        )


def _from(oldest: int, protocol: int) -> str:
    return "" if oldest == protocol else f" and those from {oldest} on"


def check_archive(protocol: int, qualified_name: str) -> str | None:
    """Says why this release cannot connect a stub that was saved with `protocol`, and what to do; None: it can."""
    if OLDEST_PROTOCOL <= protocol <= PROTOCOL:
        return None
    writer = _FIRST_RELEASES.get(protocol, "another release of torchremote")
    return (
        f"{qualified_name}: {writer} saved this stub, with protocol {protocol}; torchremote {__version__} connects "
        f"those of protocol {PROTOCOL}{_from(OLDEST_PROTOCOL, PROTOCOL)}; load the archive with the release that saved "
        "it, or create the stub again and save it with this one"
    )
