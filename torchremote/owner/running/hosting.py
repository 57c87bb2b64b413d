"""Describes how a module is hosted, and decides how its calls run: at once, each in a fork, in turn, or gathered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from ... import _torch, chores, native
from ...errors import CreationError
from ...jit import Contract
from ...jit.owner_units import counted_module, host_at_once, host_forked, host_gathering, host_in_turn
from .gathering import Gather, gathered_methods

Put = Callable[[int], None]
"""Makes a handle lead to a module, for calls that begin from then on. Called under tables.LOCK."""


@dataclass(frozen=True)
class Ways:
    """Says how the calls of a module run."""

    in_turn: bool = False  # one after another: see turns.py
    gather: Gather | None = None  # how they are gathered, if they are
    moves: bool | None = None  # whether tensors move to the device and back; None: they do on an accelerator

    @property
    def takes_turns(self) -> bool:
        """Says whether calls run one after another, or wait to be gathered."""
        return self.in_turn or self.gather is not None


AT_ONCE: Final = Ways()


@dataclass(frozen=True, eq=False)
class Hosting:
    """Describes how a module is hosted. It never changes: when the module is exchanged, there is another one.

    It has what is found out by looking into the module. Whoever wants to know that later need not look, and so need not
    wait for a turn.
    """

    module: torch.jit.ScriptModule
    device: torch.device
    ways: Ways
    moves: bool  # whether tensors move to the device and back
    strand: Any  # in which calls in turn run, with the native part
    exchanged: int  # how often the module was exchanged
    bytes: int  # of its parameters and buffers
    learns: bool  # whether a parameter requires gradients
    parts: frozenset[object]  # the objects in C++ of its parts, itself included, if it takes turns
    since: float = field(default_factory=time.time)  # when the module came, in seconds of Unix time


def hosting_of(
    module: torch.jit.ScriptModule, device: torch.device, ways: Ways, before: Hosting | None = None
) -> Hosting:
    """Looks into a module that is to be hosted. If it is hosted already, only a turn may call this.

    Args:
        before: the hosting that this one replaces, if there is one.
    """
    strand = None if before is None else before.strand
    return Hosting(
        module=module,
        device=device,
        ways=ways,
        moves=device.type != "cpu" if ways.moves is None else ways.moves,
        strand=_strand_of(module, strand) if ways.takes_turns else strand,
        exchanged=0 if before is None else before.exchanged + 1,
        bytes=_bytes_of(module),
        learns=any(parameter.requires_grad for parameter in _parameters_of(module)),
        parts=objects_in(module) if ways.takes_turns else frozenset(),
    )


def _strand_of(module: torch.jit.ScriptModule, strand: object) -> object:
    """Returns the strand in which calls of `module` run in turn: see jit/lower/in_turn.py, Note [Strands].

    Args:
        strand: that of the module in whose place this one comes. None: there was none.

    Returns:
        The strand of the modules with which it shares a part. None: there is no native part.

    Raises:
        CreationError: it shares parts with modules that have different strands.
    """
    if not native.available():
        return None
    chores.regularly(native.forget_strands)
    joined = native.join_strand(_torch.object_of(module), strand)
    if joined is None:
        raise CreationError(
            f"{module.original_name}: its calls run in turn, and it shares parts with modules that are hosted already, "
            "and do not wait for each other's turn; host it before them, or start the owner with TORCHREMOTE_NATIVE=0"
        )
    return joined


def objects_in(module: torch.jit.ScriptModule) -> frozenset[object]:
    """Returns the objects in C++ of a module and its parts. No call changes these, so nothing waits for a turn."""
    parts = torch.nn.Module.modules(module)
    return frozenset(_torch.object_of(part) for part in parts if isinstance(part, torch.jit.ScriptModule))


def _parameters_of(module: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """Yields the parameters that lie here: a stub, which relays to another worker, refuses to be asked for its own."""
    return (parameter for _, parameter in torch.nn.Module.named_parameters(module))


def _bytes_of(module: torch.nn.Module) -> int:
    buffers = (buffer for _, buffer in torch.nn.Module.named_buffers(module))
    tensors = (*_parameters_of(module), *buffers)
    return sum(part.numel() * part.element_size() for tensor in tensors for part in _torch.stored_parts(tensor))


def put_of(contract: Contract, hosting: Hosting, counts: object, is_same: bool = False) -> Put:
    """Compiles what runs the module's calls, if need be. Returns what puts it into the table of an interface.

    Also waits until the module's tensors are on the device.

    Args:
        counts: the object that counts the module's calls. None: nobody counts.
        is_same: whether the handle leads to this module already, or to one of which it is a copy. Then what is returned
            has to be called in turn: see jit/runtime/current.py.
    """
    wait_for_device(hosting.device)
    module, gather = hosting.module, hosting.ways.gather
    called = module if counts is None else counted_module(contract, module, counts)
    methods = gathered_methods(gather, contract, module)
    given: tuple[object, ...] = (called, hosting.device, hosting.moves)
    if gather is not None and methods is not None:
        host = host_gathering(contract, methods)
        given = (*given, hosting.strand, is_same, gather.most, hosting.learns)
    elif hosting.ways.in_turn:
        host = host_in_turn(contract)
        given = (*given, hosting.strand, is_same)
    else:
        host = host_forked(contract) if may_wait(module) else host_at_once(contract)
    return lambda handle: host(handle, *given)


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
