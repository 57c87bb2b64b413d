"""Helps the two kinds of link: words the refusal of a call that is not connected, and looks at a lease.

A process compiles this text once, for all interfaces. The links themselves are generated: see lower/link.py.
"""

from __future__ import annotations

from typing import Final, Optional

from torch.distributed.rpc import RRef

NOT_CONNECTED: Final = " is not connected; call torchremote.reconnect(model)"
"""Part of the refusal of a stub that is not connected. link/failures.py looks for it."""


def disconnected(worker: str, name: str) -> str:
    stub = "this stub" if name == "" else "the stub of '" + name + "' on " + worker
    return stub + NOT_CONNECTED + " (what was frozen cannot be connected: freeze only parts without stubs)"


def hold(lease: Optional[RRef[int]]) -> None:
    # TorchScript leaves out what has no effect, and would let the lease go before.
    if lease is not None and lease.owner_name() == "":
        raise RuntimeError("torchremote: the module has no owner")
