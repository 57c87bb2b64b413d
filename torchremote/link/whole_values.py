"""Checks the tensors in values of any kind, which RPC's pickler sends: arguments of constructors, and of RemoteModules.

A tensor in an object is found as the pickler finds it: the object is pickled to nowhere. So objects are pickled twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from .. import _torch
from ..errors import ArgumentError
from ..jit import sendable
from .failures import FAILURES, message_of, refusal_of, uncheckable
from .tensors import check_plain
from .tensors_within import parts_of, with_changes


def checked_value(value: Any, where: str) -> Any:
    """Checks every tensor in `value`, and returns `value` as it can be sent.

    See jit/runtime/tensors.py, Note [Tensors that hurt].

    Args:
        where: names the value in errors.

    Raises:
        ArgumentError: a tensor in it would end a process.
    """
    changes = []
    for part, path in parts_of(value):
        if isinstance(part, torch.Tensor):
            changes.append((part, _checked_tensor(part, f"{where}{path}")))
        else:
            check_object(part, f"{where}{path}")
    return with_changes(value, changes)


def check_object(value: object, place: str) -> None:
    """Checks the tensors that RPC's pickler meets in an object. It is not made anew."""
    try:
        tensors = _torch.tensors_pickled(value)
    except Exception:  # it raises again, and says why, when the object is sent
        return
    for tensor in tensors:
        if _checked_tensor(tensor, place) is not tensor:
            raise ArgumentError(
                f"{place}: an empty tensor in a {type(value).__name__} begins behind the end of its storage; clone it"
            )


def _checked_tensor(tensor: torch.Tensor, place: str) -> torch.Tensor:
    if _torch.is_transforming() or _torch.in_fake_mode():
        raise ArgumentError(
            f"{place}: a tensor cannot cross under a torch.func transform such as vmap, or under a FakeTensorMode; "
            "call it outside"
        )
    if is_lazy(tensor):  # pickled without any value
        return tensor
    if _torch.class_has_dispatch(type(tensor)):  # pickled as other objects are
        check_object(tensor, place)
        return tensor
    check_plain(tensor, place)
    if tensor.layout == torch.sparse_csr:  # torch sends the parts. It cannot send other such layouts.
        for part in _torch.stored_parts(tensor):
            _checked_tensor(part, place)
        return tensor
    check: Callable[..., torch.Tensor] = sendable()
    try:
        return check(tensor, None, place)
    except FAILURES as error:
        message = message_of(error)
        raise ArgumentError(refusal_of(message) or f"{place}: {uncheckable(message)}") from None
