"""Does on the owner what `at_owner` asks for: parameters, state, modes and device of a hosted module.

Note [Pieces]
    State crosses in pieces of at most `PIECE` bytes, so that no message takes long. A piece is a range of one tensor's
    longest dimension. Nothing stops meanwhile: training goes on, as it would beside a local `state_dict()`. Of a module
    that takes turns, each message is read or written in one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import torch
import torch.distributed.rpc as rpc

from .. import _torch
from .._torch import PyRRef
from ..errors import ArgumentError, StaleStubError
from ..link.places import check_device
from ..link.stubs import is_stub
from . import modules
from .checkpoints import copy_path
from .exported import check_movable
from .modes import set_modes
from .overlaps import overlaps
from .running.hosting import Hosting, wait_for_device
from .state_names import ShapeAndDtype, check_has_state, copy_names, state_of, versions_in
from .state_versions import Versions

T = TypeVar("T")

PIECE: Final = 64 << 20
"""The most bytes in a message of pieces."""


@dataclass(frozen=True)
class Piece:
    """The elements `begin` to `end` of a tensor along `dim`. Of a tensor without dimensions, the whole."""

    name: str
    dim: int
    begin: int
    end: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the view of `tensor` that this piece describes."""
        return tensor.narrow(self.dim, self.begin, self.end - self.begin) if tensor.dim() else tensor


def pieces(parts: dict[str, ShapeAndDtype], size: int = PIECE) -> Iterator[list[Piece]]:
    """Splits `parts` into messages of at most `size` bytes. Only one element of a longest dimension may be larger."""
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


# -- functions that run on the owner; `handle` is the handle of the stub that was given to `at_owner`


def parameters_here(handle: int, recurse: bool) -> list[PyRRef[Any]]:
    """Returns an RRef to each parameter."""
    return [rpc.RRef(parameter) for parameter in _between_calls(handle, partial(_parameters_of, recurse=recurse))]


def module_rref_here(handle: int, interface_name: str) -> PyRRef[Any]:
    """Returns an RRef to the module. Its type is the interface `interface_name` if TorchScript knows that here."""
    entry, contract = modules.entry_at(handle)
    known = _torch.has_interface(interface_name)
    return rpc.RRef(
        entry.hosting.module, _torch.interface_called(interface_name) if known else contract.defined["ModuleInterface"]
    )


def state_here(handle: int) -> tuple[int, dict[str, ShapeAndDtype], Versions]:
    """Returns what `read_here` and `write_here` need.

    That is how often the module was exchanged, the shape and dtype of each tensor of its state, and the state's
    versions.
    """

    def list_tensors(hosting: Hosting) -> tuple[int, dict[str, ShapeAndDtype], Versions]:
        tensors = {}
        for name, tensor in _state_of(hosting).items():
            if tensor.layout != torch.strided or tensor.is_quantized:
                what = "quantized" if tensor.is_quantized else str(tensor.layout)
                raise ArgumentError(f"{name}: a {what} tensor cannot be sent in pieces; write a checkpoint() instead")
            tensors[name] = ShapeAndDtype(tuple(tensor.shape), tensor.dtype, overlaps(tensor))
        return hosting.exchanged, tensors, versions_in(hosting.module)

    return _between_calls(handle, list_tensors)


def read_here(handle: int, exchanged: int, message: Sequence[Piece]) -> list[torch.Tensor]:
    """Returns copies of pieces of the state, on the CPU."""

    def read(hosting: Hosting) -> list[torch.Tensor]:
        state = _state_of(hosting, exchanged)
        return [piece.of(state[piece.name]).detach().to("cpu", copy=True) for piece in message]

    return _between_calls(handle, read)


def write_here(handle: int, exchanged: int, message: Sequence[Piece], values: Sequence[torch.Tensor]) -> None:
    """Copies `values` into pieces of the state."""

    def write(hosting: Hosting) -> None:
        state = _state_of(hosting, exchanged)
        with torch.no_grad():
            for piece, value in zip(message, values, strict=True):
                piece.of(state[piece.name]).copy_(value)
        for device in {state[piece.name].device for piece in message}:
            wait_for_device(device)

    _between_calls(handle, write)


def train_here(handle: int, mode: bool) -> None:
    """Sets the module's training mode.

    Raises:
        ArgumentError: the module was exported in the other mode alone.
    """

    train_many_here([handle], mode)


def train_many_here(handles: Sequence[int], mode: bool) -> None:
    """Sets the training mode of several modules, or, if one refuses it, of none."""
    set_modes([modules.entry_at(handle)[0] for handle in handles], mode)


def zero_grad_here(handle: int) -> None:
    """Sets the gradients of all parameters to None."""

    def zero_grad(hosting: Hosting) -> None:
        for parameter in _parameters_of(hosting):
            parameter.grad = None

    _between_calls(handle, zero_grad)


def requires_grad_here(handle: int, requires_grad: bool) -> None:
    """Sets whether the parameters require gradients."""
    entry, _ = modules.entry_at(handle)

    def set_them(hosting: Hosting) -> None:
        for parameter in _parameters_of(hosting):
            parameter.requires_grad_(requires_grad)
        if hosting.ways.gather is not None:  # on it depends which calls can be gathered
            modules.exchange_in_turn(entry, hosting, hosting.module, hosting.device)

    modules.between_calls(entry, set_them)


def move_here(handle: int, where: str) -> str:
    """Moves the module to another device of this process. Returns the device with its index."""
    entry, _ = modules.entry_at(handle)
    device = check_device(where)

    def move(hosting: Hosting) -> bool:
        if hosting.device == device:
            return True
        check_has_state(hosting.module)
        check_movable(hosting.module, device)
        return modules.exchange_in_turn(entry, hosting, _copy_on(device, hosting.module), device)

    while not modules.between_calls(entry, move):
        pass  # another module took its place
    return str(device)


def _copy_on(device: torch.device, module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Copies a module, with its parameters and buffers, to `device`."""
    moved: dict[torch.Tensor, torch.Tensor] = {}  # by identity, so that two parts go on sharing a tensor

    def copy_of(part: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
        if is_stub(part):
            return part  # a stub of another module, which stays on its device
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
        for name, constant in _torch.tensor_attributes(part):
            setattr(copied, name, constant.to(device, copy=True))
        return copied

    copied = copy_of(module)
    copy_names(copied, module)
    copy_path(copied, module)
    return copied


def _between_calls(handle: int, function: Callable[[Hosting], T]) -> T:
    """Calls `function` with the module that `handle` leads to: see modules.py, Note [Python beside calls]."""
    return modules.between_calls(modules.entry_at(handle)[0], function)


def _parameters_of(hosting: Hosting, recurse: bool = True) -> list[torch.nn.Parameter]:
    """Lists the parameters of a hosted module."""
    check_has_state(hosting.module)
    return list(hosting.module.parameters(recurse))


def _state_of(hosting: Hosting, exchanged: int | None = None) -> dict[str, torch.Tensor]:
    """Returns the state of a hosted module. Its tensors are the module's own.

    Raises:
        StaleStubError: the module was exchanged since it had been so `exchanged` times.
    """
    if exchanged not in (None, hosting.exchanged):
        raise StaleStubError("its module was moved or replaced meanwhile; ask again")
    return state_of(hosting.module)
