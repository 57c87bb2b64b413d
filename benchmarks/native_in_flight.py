"""How many calls a second does a caller with the native part make that keeps 100 in flight?"""

from __future__ import annotations

from torchremote.errors import NativeError

from . import in_flight
from .findings import OURS, Findings


def measure(quick: bool) -> Findings:
    try:
        found = in_flight.measure(quick, native=True)
    except NativeError as error:
        return Findings("100 calls in flight, with the native part", "calls/s", 1, {}, left_out={OURS: str(error)})
    found.question += ", with the native part"
    return found
