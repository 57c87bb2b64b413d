"""Finds every tensor in a value of type Any, and refuses values into which TorchScript cannot look.

TorchScript can only ask whether a value is of a type that the source names. So a value of type Any may be a tensor, a
scalar, a list or dict of these, or a list or dict of such lists and dicts. It may also be a tuple, list or dict of Any,
down to four levels. Any other value is refused: a tensor in it would be overlooked, and neither moved nor checked.

A process compiles this text once, for all interfaces that use Any, on top of the text of any_leaves.py.

Note [Walking down]
    A TorchScript function cannot call itself, and calls to functions are copied into their callers. So the walk into a
    value is a chain of objects behind an interface: a `Nest` for each level, and a `Leaf` at the end.
"""

# TorchScript asks for types that Python's isinstance does not take, and a name has another type in each branch.
# It joins tuples with + alone.
# ruff: noqa: RUF005
# mypy: disable-error-code="misc,arg-type,no-redef,assignment"

from __future__ import annotations

from typing import Any, Dict, List, Optional, Protocol, Tuple

import torch
from torch import Tensor

from .accelerator import listed
from .any_leaves import Carrier, carry_leaf
from .message import prepared, restored, returned
from .tensors import detached


class Move:
    def __init__(self, device: torch.device):
        self.device = device

    def carry(self, value: Tensor) -> Tensor:
        return value.to(self.device)

    def place(self) -> str:
        return "an argument"


class Collect:
    def __init__(self, tensors: List[Tensor]):
        self.tensors = tensors

    def carry(self, value: Tensor) -> Tensor:
        return listed(value, self.tensors)

    def place(self) -> str:
        return "an argument"


class Restore:
    def __init__(self) -> None:
        pass

    def carry(self, value: Tensor) -> Tensor:
        return restored(value)

    def place(self) -> str:
        return "a value that arrived"


class Prepare:
    def __init__(self, devices: Optional[List[torch.device]], where: str, message: List[Tensor], detaches: bool):
        self.devices = devices
        self.where = where
        self.message = message
        self.detaches = detaches

    def carry(self, value: Tensor) -> Tensor:
        return prepared(detached(value) if self.detaches else value, self.devices, self.where, self.message)

    def place(self) -> str:
        return self.where


class Return:
    def __init__(self, changes: int, where: str, message: List[Tensor]):
        self.changes = changes
        self.where = where
        self.message = message

    def carry(self, value: Tensor) -> Tensor:
        return returned(value, self.changes, self.where, self.message)

    def place(self) -> str:
        return self.where


class Find:
    # Finds a tensor that requires a gradient.
    def __init__(self, leaves: bool):
        self.leaves = leaves
        self.found = False

    def carry(self, value: Tensor) -> Tensor:
        if value.requires_grad and (self.leaves or not value.is_leaf):
            self.found = True
        return value

    def place(self) -> str:
        return "an argument"


class Walk(Protocol):
    def carry_all(self, value: Any, carrier: Carrier) -> Any:
        pass


def carry_pair(first: Any, second: Any, carrier: Carrier, inner: Walk) -> Tuple[Any, Any]:
    return inner.carry_all(first, carrier), inner.carry_all(second, carrier)


def carry_nest(value: Any, carrier: Carrier, inner: Walk) -> Any:
    # Carries the parts of a tuple, and of a list or dict of Any.
    if isinstance(value, Tuple[()]):
        return value
    if isinstance(value, Tuple[Any]):
        return (inner.carry_all(value[0], carrier),)
    if isinstance(value, Tuple[Any, Any]):
        return carry_pair(value[0], value[1], carrier, inner)
    if isinstance(value, Tuple[Any, Any, Any]):
        return carry_pair(value[0], value[1], carrier, inner) + (inner.carry_all(value[2], carrier),)
    if isinstance(value, Tuple[Any, Any, Any, Any]):
        return carry_pair(value[0], value[1], carrier, inner) + carry_pair(value[2], value[3], carrier, inner)
    if isinstance(value, Tuple[Any, Any, Any, Any, Any]):
        return (
            carry_pair(value[0], value[1], carrier, inner)
            + carry_pair(value[2], value[3], carrier, inner)
            + (inner.carry_all(value[4], carrier),)
        )
    if isinstance(value, Tuple[Any, Any, Any, Any, Any, Any]):
        return (
            carry_pair(value[0], value[1], carrier, inner)
            + carry_pair(value[2], value[3], carrier, inner)
            + carry_pair(value[4], value[5], carrier, inner)
        )
    if isinstance(value, Tuple[Any, Any, Any, Any, Any, Any, Any]):
        return (
            carry_pair(value[0], value[1], carrier, inner)
            + carry_pair(value[2], value[3], carrier, inner)
            + carry_pair(value[4], value[5], carrier, inner)
            + (inner.carry_all(value[6], carrier),)
        )
    if isinstance(value, Tuple[Any, Any, Any, Any, Any, Any, Any, Any]):
        return (
            carry_pair(value[0], value[1], carrier, inner)
            + carry_pair(value[2], value[3], carrier, inner)
            + carry_pair(value[4], value[5], carrier, inner)
            + carry_pair(value[6], value[7], carrier, inner)
        )
    if isinstance(value, List[Any]):
        carried: List[Any] = [inner.carry_all(part, carrier) for part in value]
        return carried
    # A comprehension that makes a Dict of Any fails in TorchScript's compiler.
    if isinstance(value, Dict[str, Any]):
        carried: Dict[str, Any] = {}
        for key, part in value.items():
            carried[key] = inner.carry_all(part, carrier)
        return carried
    if isinstance(value, Dict[int, Any]):
        carried: Dict[int, Any] = {}
        for key, part in value.items():
            carried[key] = inner.carry_all(part, carrier)
        return carried
    return inner.carry_all(value, carrier)


class Leaf:
    def __init__(self) -> None:
        pass

    def carry_all(self, value: Any, carrier: Carrier) -> Any:
        return carry_leaf(value, carrier)


class Nest:
    def __init__(self, inner: Walk):
        self.inner: Walk = inner

    def carry_all(self, value: Any, carrier: Carrier) -> Any:
        return carry_nest(value, carrier, self.inner)


def carry_all(value: Any, carrier: Carrier) -> Any:
    return Nest(Nest(Nest(Nest(Leaf())))).carry_all(value, carrier)


def move_any(value: Any, device: torch.device) -> Any:
    return carry_all(value, Move(device))


def listed_any(value: Any, tensors: List[Tensor]) -> Any:
    return carry_all(value, Collect(tensors))


def restored_any(value: Any) -> Any:
    return carry_all(value, Restore())


def is_recorded_any(value: Any) -> bool:
    find = Find(False)
    carry_all(value, find)
    return find.found


def is_differentiable_any(value: Any) -> bool:
    find = Find(True)
    carry_all(value, find)
    return find.found


def prepared_any(value: Any, devices: Optional[List[torch.device]], where: str, message: List[Tensor]) -> Any:
    return carry_all(value, Prepare(devices, where, message, False))


def detached_any(value: Any, devices: Optional[List[torch.device]], where: str, message: List[Tensor]) -> Any:
    return carry_all(value, Prepare(devices, where, message, True))


def returned_any(value: Any, changes: int, where: str, message: List[Tensor]) -> Any:
    return carry_all(value, Return(changes, where, message))
