"""Checks whether two releases of torchremote understand each other, in one group or through an archive.

Note [Protocols]
    A release speaks one protocol, and says from which one on it understands others (_version.py). The number is part
    of the names of endpoints, so a caller reaches only endpoints that it understands. Requests to create or connect,
    and stubs that are sent, begin with both numbers, so a worker can refuse those that it does not understand.

    A request to create is sent as a mapping of its fields, without those that have their default. So it may get another
    field that has one, under the same number: an owner of an earlier release refuses only a request that uses it, and
    says so.

    So far, a release understands its own protocol alone. To understand an older one takes more than a lower
    `OLDEST_PROTOCOL`: endpoints and links would have to be compiled under that number, too, where `scope_of`
    (jit/lower/units.py) knows one; and an owner's answer would have to say its number, so that the caller calls the
    endpoints under the lower of the two.
"""

from __future__ import annotations

from .._version import OLDEST_PROTOCOL, PROTOCOL, __version__
from ..errors import ProtocolError

SPOKEN = (PROTOCOL, OLDEST_PROTOCOL)
"""The two numbers with which requests of this process begin."""
_FIRST_RELEASES = {1: "torchremote 0.1.0"}


def check_protocol(protocol: int, oldest: int, whose: str, ours: str = "this process") -> None:
    """Checks that this process and another one understand each other.

    Args:
        protocol, oldest: the other one's protocol, and the oldest that it understands.
        whose, ours: name the other one and this one in the error, as in "the caller". Another process may read it.

    Raises:
        ProtocolError: they do not understand each other.
    """
    if protocol < OLDEST_PROTOCOL or oldest > PROTOCOL:
        raise ProtocolError(
            f"{whose} speaks protocol {protocol}{_from(oldest, protocol)}, and {ours}, which runs torchremote "
            f"{__version__}, {PROTOCOL}{_from(OLDEST_PROTOCOL, PROTOCOL)}; run the same release of torchremote on both"
        )


def _from(oldest: int, protocol: int) -> str:
    """Words the range of older protocols that are understood, if there are any."""
    return "" if oldest == protocol else f" and those from {oldest} on"


def check_archive(protocol: int, qualified_name: str) -> None:
    """Raises ProtocolError if this release cannot connect a stub that was saved with `protocol`."""
    if not OLDEST_PROTOCOL <= protocol <= PROTOCOL:
        writer = _FIRST_RELEASES.get(protocol, "another release of torchremote")
        raise ProtocolError(
            f"{qualified_name}: {writer} saved this stub, with protocol {protocol}; torchremote {__version__} connects "
            f"those of protocol {PROTOCOL}{_from(OLDEST_PROTOCOL, PROTOCOL)}; load the archive with the release that "
            "saved it, or create the stub again and save it with this one"
        )
