"""What attaches a stub to a link, and takes it off again.

The link's unit includes this text for every interface, where `Attachable` is a stub, `Disconnected` and `Connected` are
its two kinds of link, and `ADDRESS_TYPE` is what a stub is saved as (lower/link.py).
"""

from __future__ import annotations

from typing import Final, Optional

from torch.distributed.rpc import RRef

NOT_CONNECTED: Final = " is not connected; call torchremote.reconnect(model)"
"""link/failures.py looks for it."""


def disconnected(method: str, worker: str, name: str) -> str:
    stub = "this stub" if name == "" else "the stub of '" + name + "' on " + worker
    return (
        "torchremote: "
        + method
        + ": "
        + stub
        + NOT_CONNECTED
        + (" (what was frozen cannot be connected: freeze only parts without stubs)")
    )


def lost(lease: Optional[RRef[int]]) -> bool:
    return lease is not None and lease.owner_name() == ""
