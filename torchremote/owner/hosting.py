"""Decides how the calls of a hosted module run: at once, each in a fork, in turn, or gathered."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import _torch
from ..jit import Contract
from ..jit.hosting import counted_module, host_at_once, host_forked, host_gathering, host_in_turn
from .gathering import Gather, gathered_methods

Put = Callable[[int], None]
"""Makes a handle lead to a module, for calls that begin from then on. Called under tables.LOCK."""


def put_of(
    contract: Contract,
    module: torch.jit.ScriptModule,
    counts: object,
    device: torch.device,
    moves: bool,
    in_turn: bool,
    gather: Gather | None = None,
    strand: object = None,
) -> Put:
    """Compiles what runs the module's calls, if need be. Returns what puts it into the table of an interface.

    Also waits until the module's tensors are on the device.

    Args:
        counts: in what the module's calls are counted, if they are.
        moves: whether tensors move to the device and back.
        in_turn: whether calls run one after another: see turns.py.
        gather: how they are gathered, if they are: see gathering.py.
        strand: in which they run, with the native part: see turns.py.
    """
    wait_for_device(device)
    called = module if counts is None else counted_module(contract, module, counts)
    methods = gathered_methods(gather, contract)
    if gather is not None and methods is not None:
        host, learns = host_gathering(contract, methods), any(one.requires_grad for one in module.parameters())
        return lambda handle: host(handle, called, device, moves, strand, gather.most, learns)
    if in_turn:
        host = host_in_turn(contract)
        return lambda handle: host(handle, called, device, moves, strand)
    host = host_forked(contract) if may_wait(module) else host_at_once(contract)
    return lambda handle: host(handle, called, device, moves)


def may_wait(module: torch.jit.ScriptModule) -> bool:
    """Says whether a method of `module`, or of a part, waits for a Future: see jit/lower/forked.py.

    Objects behind an interface of classes do not count: their methods are not in the graph.
    """
    parts = (part for part in module.modules() if isinstance(part, torch.jit.ScriptModule))
    return any(_torch.waits(part, method) for part in parts for method in _torch.method_names(part))


def wait_for_device(device: torch.device) -> None:
    """Waits until a device has done what this thread gave it. Calls with a device map do not: they have own streams."""
    if device.type not in ("cpu", "meta"):
        torch.zeros(1, device=device).tolist()  # to read a value waits for all before it
