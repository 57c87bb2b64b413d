"""Finds every tensor in a list or dict that has a type of its own, and lists the values that can have none.

A process compiles this text once, for all interfaces that use Any, on top of the text of message.py. It is the end of
the walk into a value: see any.py.
"""

# TorchScript asks for types that Python's isinstance does not take, and a name has another type in each branch.
# mypy: disable-error-code="misc,arg-type,no-redef,assignment"

from __future__ import annotations

from typing import Any, Dict, Final, List, Optional, Protocol

import torch
from torch import Tensor

from .tensors import CANNOT_SEND

REFUSAL: Final = (
    ": what is in a value of type Any is a tensor, a scalar, or a tuple, list or dict of these that TorchScript can "
    "look into (the table of types in the documentation says which); declare the value's own type"
)


class Carrier(Protocol):
    # Moves, checks or returns one tensor.
    def carry(self, value: Tensor) -> Tensor:
        pass

    def place(self) -> str:
        pass


def carry_list(values: List[Tensor], carrier: Carrier) -> List[Tensor]:
    return [carrier.carry(value) for value in values]


def carry_optionals(values: List[Optional[Tensor]], carrier: Carrier) -> List[Optional[Tensor]]:
    return [None if value is None else carrier.carry(value) for value in values]


def carry_by_name(values: Dict[str, Tensor], carrier: Carrier) -> Dict[str, Tensor]:
    return {key: carrier.carry(value) for key, value in values.items()}


def carry_by_number(values: Dict[int, Tensor], carrier: Carrier) -> Dict[int, Tensor]:
    return {key: carrier.carry(value) for key, value in values.items()}


def carry_optionals_by_name(values: Dict[str, Optional[Tensor]], carrier: Carrier) -> Dict[str, Optional[Tensor]]:
    return {key: None if value is None else carrier.carry(value) for key, value in values.items()}


def carry_optionals_by_number(values: Dict[int, Optional[Tensor]], carrier: Carrier) -> Dict[int, Optional[Tensor]]:
    return {key: None if value is None else carrier.carry(value) for key, value in values.items()}


# fmt: off
def holds_integers(value: Any) -> bool:
    return isinstance(value, (
        int, List[int], Dict[str, int], Dict[int, int], List[Optional[int]], Dict[str, Optional[int]],
        Dict[int, Optional[int]], List[List[int]], Dict[str, List[int]], Dict[int, List[int]], List[Dict[str, int]],
        Dict[str, Dict[str, int]], Dict[int, Dict[str, int]], List[Dict[int, int]], Dict[str, Dict[int, int]],
        Dict[int, Dict[int, int]], List[List[Optional[int]]], Dict[str, List[Optional[int]]],
        Dict[int, List[Optional[int]]],
    ))


def holds_floats(value: Any) -> bool:
    return isinstance(value, (
        float, List[float], Dict[str, float], Dict[int, float], List[Optional[float]], Dict[str, Optional[float]],
        Dict[int, Optional[float]], List[List[float]], Dict[str, List[float]], Dict[int, List[float]],
        List[Dict[str, float]], Dict[str, Dict[str, float]], Dict[int, Dict[str, float]], List[Dict[int, float]],
        Dict[str, Dict[int, float]], Dict[int, Dict[int, float]], List[List[Optional[float]]],
        Dict[str, List[Optional[float]]], Dict[int, List[Optional[float]]],
    ))


def holds_bools(value: Any) -> bool:
    return isinstance(value, (
        bool, List[bool], Dict[str, bool], Dict[int, bool], List[Optional[bool]], Dict[str, Optional[bool]],
        Dict[int, Optional[bool]], List[List[bool]], Dict[str, List[bool]], Dict[int, List[bool]],
        List[Dict[str, bool]], Dict[str, Dict[str, bool]], Dict[int, Dict[str, bool]], List[Dict[int, bool]],
        Dict[str, Dict[int, bool]], Dict[int, Dict[int, bool]], List[List[Optional[bool]]],
        Dict[str, List[Optional[bool]]], Dict[int, List[Optional[bool]]],
    ))


def holds_complexes(value: Any) -> bool:
    return isinstance(value, (
        complex, List[complex], Dict[str, complex], Dict[int, complex], List[Optional[complex]],
        Dict[str, Optional[complex]], Dict[int, Optional[complex]], List[List[complex]], Dict[str, List[complex]],
        Dict[int, List[complex]], List[Dict[str, complex]], Dict[str, Dict[str, complex]],
        Dict[int, Dict[str, complex]], List[Dict[int, complex]], Dict[str, Dict[int, complex]],
        Dict[int, Dict[int, complex]], List[List[Optional[complex]]], Dict[str, List[Optional[complex]]],
        Dict[int, List[Optional[complex]]],
    ))


def holds_strings(value: Any) -> bool:
    return isinstance(value, (
        str, List[str], Dict[str, str], Dict[int, str], List[Optional[str]], Dict[str, Optional[str]],
        Dict[int, Optional[str]], List[List[str]], Dict[str, List[str]], Dict[int, List[str]], List[Dict[str, str]],
        Dict[str, Dict[str, str]], Dict[int, Dict[str, str]], List[Dict[int, str]], Dict[str, Dict[int, str]],
        Dict[int, Dict[int, str]], List[List[Optional[str]]], Dict[str, List[Optional[str]]],
        Dict[int, List[Optional[str]]],
    ))


def holds_devices(value: Any) -> bool:
    return isinstance(value, (
        torch.device, List[torch.device], Dict[str, torch.device], Dict[int, torch.device],
        List[Optional[torch.device]], Dict[str, Optional[torch.device]], Dict[int, Optional[torch.device]],
        List[List[torch.device]], Dict[str, List[torch.device]], Dict[int, List[torch.device]],
        List[Dict[str, torch.device]], Dict[str, Dict[str, torch.device]], Dict[int, Dict[str, torch.device]],
        List[Dict[int, torch.device]], Dict[str, Dict[int, torch.device]], Dict[int, Dict[int, torch.device]],
        List[List[Optional[torch.device]]], Dict[str, List[Optional[torch.device]]],
        Dict[int, List[Optional[torch.device]]],
    ))
# fmt: on


def carry_leaf(value: Any, carrier: Carrier) -> Any:
    # Carries a tensor, or a list or dict with tensors that has a type of its own.
    if isinstance(value, Tensor):
        return carrier.carry(value)
    if isinstance(value, List[Tensor]):
        return carry_list(value, carrier)
    if isinstance(value, Dict[str, Tensor]):
        return carry_by_name(value, carrier)
    if isinstance(value, Dict[int, Tensor]):
        return carry_by_number(value, carrier)
    if isinstance(value, List[Optional[Tensor]]):
        return carry_optionals(value, carrier)
    if isinstance(value, Dict[str, Optional[Tensor]]):
        return carry_optionals_by_name(value, carrier)
    if isinstance(value, Dict[int, Optional[Tensor]]):
        return carry_optionals_by_number(value, carrier)
    if isinstance(value, List[List[Tensor]]):
        carried: List[List[Tensor]] = [carry_list(part, carrier) for part in value]
        return carried
    if isinstance(value, Dict[str, List[Tensor]]):
        carried: Dict[str, List[Tensor]] = {key: carry_list(part, carrier) for key, part in value.items()}
        return carried
    if isinstance(value, Dict[int, List[Tensor]]):
        carried: Dict[int, List[Tensor]] = {key: carry_list(part, carrier) for key, part in value.items()}
        return carried
    if isinstance(value, List[Dict[str, Tensor]]):
        carried: List[Dict[str, Tensor]] = [carry_by_name(part, carrier) for part in value]
        return carried
    if isinstance(value, Dict[str, Dict[str, Tensor]]):
        carried: Dict[str, Dict[str, Tensor]] = {key: carry_by_name(part, carrier) for key, part in value.items()}
        return carried
    if isinstance(value, Dict[int, Dict[str, Tensor]]):
        carried: Dict[int, Dict[str, Tensor]] = {key: carry_by_name(part, carrier) for key, part in value.items()}
        return carried
    if isinstance(value, List[Dict[int, Tensor]]):
        carried: List[Dict[int, Tensor]] = [carry_by_number(part, carrier) for part in value]
        return carried
    if isinstance(value, Dict[str, Dict[int, Tensor]]):
        carried: Dict[str, Dict[int, Tensor]] = {key: carry_by_number(part, carrier) for key, part in value.items()}
        return carried
    if isinstance(value, Dict[int, Dict[int, Tensor]]):
        carried: Dict[int, Dict[int, Tensor]] = {key: carry_by_number(part, carrier) for key, part in value.items()}
        return carried
    if isinstance(value, List[List[Optional[Tensor]]]):
        carried: List[List[Optional[Tensor]]] = [carry_optionals(part, carrier) for part in value]
        return carried
    if isinstance(value, Dict[str, List[Optional[Tensor]]]):
        carried: Dict[str, List[Optional[Tensor]]] = {
            key: carry_optionals(part, carrier) for key, part in value.items()
        }
        return carried
    if isinstance(value, Dict[int, List[Optional[Tensor]]]):
        carried: Dict[int, List[Optional[Tensor]]] = {
            key: carry_optionals(part, carrier) for key, part in value.items()
        }
        return carried
    if isinstance(value, (None, List[None], Dict[str, None], Dict[int, None])) or holds_integers(value):
        return value
    if holds_floats(value) or holds_bools(value):
        return value
    if holds_complexes(value) or holds_strings(value) or holds_devices(value):
        return value
    raise RuntimeError(CANNOT_SEND + carrier.place() + REFUSAL)
