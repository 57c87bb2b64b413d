"""What an owner does to a module that it hosts, when `at_owner` asks: parameters, state, modes, device, checkpoints.

Note [Pieces]
    State crosses in pieces of at most `PIECE` bytes, each a range of one tensor's longest dimension, so that none takes
    an RPC long. Nothing is stopped meanwhile: what trains goes on, as it would beside a local `state_dict()`.
"""

from __future__ import annotations

import copy
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from .._torch import PyRRef
from ..errors import ArgumentError, StaleStubError
from ..link.places import check_device
from ..link.stubs import is_stub
from . import modules

PIECE: Final = 64 << 20


@dataclass(frozen=True)
class Part:
    """A tensor of a state, without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Piece:
    """Elements `begin` to `end` of a tensor, along its dimension `dim`; of one without dimensions, the whole."""

    name: str
    dim: int
    begin: int
    end: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.narrow(self.dim, self.begin, self.end - self.begin) if tensor.dim() else tensor


def pieces(parts: dict[str, Part], size: int = PIECE) -> Iterator[list[Piece]]:
    """All of `parts` in messages of at most `size` bytes, as far as one element of a longest dimension allows."""
    message: list[Piece] = []
    room = size
    for name, part in parts.items():
        dim = max(range(len(part.shape)), key=part.shape.__getitem__, default=0)
        length = part.shape[dim] if part.shape else 1
        each = torch.Size(part.shape).numel() // max(length, 1) * part.dtype.itemsize
        begin = 0
        while begin < length or begin == 0:
            if message and room < each:
                yield message
                message, room = [], size
            end = min(length, begin + max(1, room // max(each, 1)))
            message.append(Piece(name, dim, begin, end))
            room -= (end - begin) * each
            begin = max(end, 1)
    if message:
        yield message


# -- on the owner; `handle` is what the asking stub calls


def parameters_here(handle: int, recurse: bool) -> list[PyRRef[Any]]:
    return [rpc.RRef(parameter) for parameter in _module(handle).parameters(recurse)]


def module_rref_here(handle: int, interface_name: str) -> PyRRef[Any]:
    entry, contract = modules.entry_at(handle)
    known = _torch.has_interface(interface_name)
    return rpc.RRef(
        entry.module, _torch.interface_called(interface_name) if known else contract.defined["ModuleInterface"]
    )


def parts_here(handle: int) -> tuple[int, dict[str, Part]]:
    """The state's parts, and which of the modules that the handle has had they are of: for the functions below."""
    entry, _ = modules.entry_at(handle)
    exchanged, parts = entry.exchanged, {}
    for name, tensor in entry.module.state_dict().items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            what = "quantized" if tensor.is_quantized else str(tensor.layout)
            raise ArgumentError(f"{name}: a {what} tensor cannot be sent in pieces; write a checkpoint() instead")
        parts[name] = Part(tuple(tensor.shape), tensor.dtype)
    return exchanged, parts


def read_here(handle: int, exchanged: int, message: Sequence[Piece]) -> list[torch.Tensor]:
    state = _state(handle, exchanged)
    return [piece.of(state[piece.name]).detach().cpu().clone() for piece in message]


def write_here(handle: int, exchanged: int, message: Sequence[Piece], values: Sequence[torch.Tensor]) -> None:
    state = _state(handle, exchanged)
    with torch.no_grad():
        for piece, value in zip(message, values, strict=True):
            piece.of(state[piece.name]).copy_(value)


def _state(handle: int, exchanged: int) -> dict[str, torch.Tensor]:
    entry, _ = modules.entry_at(handle)
    if entry.exchanged != exchanged:
        raise StaleStubError("its module was moved or replaced meanwhile; ask again")
    state: dict[str, torch.Tensor] = entry.module.state_dict()
    return state


def train_here(handle: int, mode: bool) -> None:
    _module(handle).train(mode)


def zero_grad_here(handle: int) -> None:
    for parameter in _module(handle).parameters():
        parameter.grad = None


def requires_grad_here(handle: int, requires_grad: bool) -> None:
    for parameter in _module(handle).parameters():
        parameter.requires_grad_(requires_grad)


def move_here(handle: int, where: str) -> str:
    """Moves the module to another device of this process; returns the device with its index."""
    entry, _ = modules.entry_at(handle)
    device = check_device(where)
    while entry.device != device:
        module = entry.module
        modules.exchange(entry, _copy_on(device, module), device, instead_of=module)
    return str(device)


def _copy_on(device: torch.device, module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    moved: dict[torch.Tensor, torch.Tensor] = {}  # by identity: a tensor that two parts share stays one

    def copy_of(part: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
        if is_stub(part):
            return part  # a stub of something else, which stays where it is
        copied: torch.jit.ScriptModule = copy.copy(part)
        for name, child in part._modules.items():
            if isinstance(child, torch.jit.ScriptModule):
                child = copy_of(child)
                _torch.set_child(copied, name, child)
                _torch.replace_child(copied, name, child)
        for name, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
            if parameter not in moved:
                moved[parameter] = torch.nn.Parameter(parameter.detach().to(device, copy=True), parameter.requires_grad)
            setattr(copied, name, moved[parameter])
        for name, buffer in part.named_buffers(recurse=False, remove_duplicate=False):
            if buffer not in moved:
                moved[buffer] = buffer.to(device, copy=True)
            setattr(copied, name, moved[buffer])
        return copied

    return copy_of(module)


def checkpoint_here(handle: int, path: str) -> None:
    unfinished = f"{path}.{secrets.token_hex(4)}"
    try:
        torch.save(_module(handle).state_dict(), unfinished)
        os.replace(unfinished, path)  # what was there stays until the new one is whole
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


def _module(handle: int) -> torch.jit.ScriptModule:
    return modules.entry_at(handle)[0].module
