"""Connects to modules that workers serve under a name."""

from __future__ import annotations

from typing import Any

from ..jit import compile_interface
from ..link.places import find_worker
from ..owner.served import check_name
from .pending import find_served
from .stub import check_timeout


def connect(where: str, interface: type, name: str, *, timeout: float | None = None) -> Any:
    """Connects to the module that a worker serves under `name`.

    Args:
        where: "worker" or "rank:N". No device is given: a served module stays on its device.
        interface: a class of annotated methods. The module implements it. It may have fewer methods than the interface
            with which the module is served, and other defaults.
        name: the name that was given to `serve` or to `create(..., name=)`.
        timeout: seconds that each call of the stub may take; 0 for no limit, None for RPC's default.

    Returns:
        A stub of the module, as from `create`.

    Raises:
        NotInitializedError: RPC is not running in this process.
        PlaceError: there is no such worker, or `where` has a device.
        InterfaceError: `interface` has a signature that cannot cross.
        ServedNameError: the worker serves nothing under `name`.
        MismatchError: the module does not implement `interface`.
        WireError: the worker is lost, or does not answer in time.
        ValueError: `timeout` is no number of seconds.

    One worker creates a module with a name:

    >>> import torch, torch.distributed.rpc as rpc
    >>> from torchremote import create
    >>> class Layer:
    ...     def forward(self, input: torch.Tensor) -> torch.Tensor: ...
    >>> first = create("owner", Layer, torch.nn.Linear, args=(4, 2), name="layer")

    Any other worker can connect to it:

    >>> layer = connect("owner", Layer, "layer")
    >>> layer(torch.ones(3, 4)).shape
    torch.Size([3, 2])

    The owner withdraws the name:

    >>> import torchremote
    >>> rpc.rpc_sync("owner", torchremote.withdraw, ("layer",))
    """
    compiled = compile_interface(interface)
    check_name(name)
    return find_served(find_worker(where), compiled, name, check_timeout(timeout)).wait()
