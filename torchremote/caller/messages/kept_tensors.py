"""Keeps tensors that Python knows until a message with them was answered.

Note [Kept tensors]
    Whoever lets go of the last reference that C++ has to a tensor of Python takes the GIL. A message must not do that:
    see jit/runtime/tensors.py, Note [Tensors that Python knows]. In the place of most tensors, scripted calls send
    others. For the rest, C++ has one more reference until the answer is there. These are the tensors of which autograd
    may record that they were sent, and all tensors in a message that is pickled: those in objects are found as the
    pickler finds them. What an object makes while it is pickled, as a parameter does, is nobody's and cannot be found.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any, Final

import torch

from ... import _torch


def keep_tensors(values: Iterable[Any], is_pickled: bool) -> object | None:
    """Returns what keeps the tensors among `values`, and in containers there, or None if none has to be kept.

    Args:
        is_pickled: keeps all tensors, and not only those that require a gradient.
    """
    tensors, objects = _parts_of(values)
    if not is_pickled:
        found = [tensor for tensor in tensors if tensor.requires_grad]
    elif objects:
        found = tensors + _tensors_in_objects(objects)
    else:
        found = tensors
    return _torch.references_in_cpp(found) if found else None


def until_answered(answer: Any, kept: object) -> None:
    """Keeps `kept` until `answer` is there: a Future, or an RRef."""
    _torch.keep_until_done(_torch.creation_of(answer) or answer, kept)


def may_be_recorded(values: Iterable[Any]) -> bool:
    """Says whether `keep_tensors` may find a tensor that requires a gradient. It is quick: each call asks."""
    for value in values:
        if type(value) is torch.Tensor:
            if value.requires_grad:
                return True
        elif type(value) not in _SCALARS:
            return True
    return False


_SCALARS: Final = frozenset({bool, int, float, complex, str, NoneType})


# Objects of these classes have no tensors, or are not pickled as others are.
_WITHOUT: Final = _SCALARS | {
    type,
    bytes,
    FunctionType,
    BuiltinFunctionType,
    torch.device,
    _torch.WorkerInfo,
    _torch.PyRRef,
}


def _parts_of(values: Iterable[Any]) -> tuple[list[torch.Tensor], list[object]]:
    """Returns the tensors among `values`, and in containers there, and the objects in which others may be."""
    tensors: list[torch.Tensor] = []
    objects: list[object] = []
    seen: set[int] = set()  # a list may contain itself
    left: list[Iterable[Any]] = [values]
    while left:
        for value in left.pop():
            if isinstance(value, torch.Tensor):
                tensors.append(value)
            elif isinstance(value, (list, tuple, dict)):
                if id(value) not in seen:
                    seen.add(id(value))
                    left.append(value)
                    if isinstance(value, dict):  # its keys may be tensors, too
                        left.append(value.values())
            elif type(value) not in _WITHOUT:
                objects.append(value)
    return tensors, objects


def _tensors_in_objects(objects: list[object]) -> list[torch.Tensor]:
    try:
        return _torch.tensors_pickled(objects)
    except Exception:  # it raises again, and says why, when the objects are sent
        return []
