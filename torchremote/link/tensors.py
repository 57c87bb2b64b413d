"""Looks at tensors as only Python can: refuses those that TorchScript cannot tell, and restores those that arrive.

jit/runtime/tensors.py and jit/runtime/message.py do the rest, in TorchScript.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from types import NoneType
from typing import Any, Final

import torch
from torch.autograd import forward_ad
from torch.nn.parameter import is_lazy

from .. import _torch
from ..errors import ArgumentError
from ..jit.read.shown import shown
from ..jit.read.types import TENSOR, DictType, ListType, OptionalType, TensorType, TupleType, Type
from ..jit.runtime.message import MARK
from .misfits import Inside


def check_plain(tensor: torch.Tensor, where: str | Inside) -> None:
    """Refuses a tensor that keeps its values elsewhere, as only Python can see.

    Raises:
        ArgumentError: `tensor` is of a subclass such as DTensor. torch would look for values in the tensor itself, and
            crash. See jit/runtime/tensors.py, Note [Tensors that hurt]. Or it is a dual tensor, and torch would send it
            without its tangent.
    """
    if is_lazy(tensor):
        raise ArgumentError(f"{where}: an uninitialized parameter or buffer has no values yet; run its module once")
    if _torch.has_dispatch(tensor) and not tensor.is_nested:
        raise ArgumentError(
            f"{where}: {shown(tensor)} keeps its values elsewhere and cannot cross; pass a plain tensor"
        )
    if _is_dual(tensor):
        raise ArgumentError(
            f"{where}: a dual tensor of forward-mode differentiation cannot cross, because its tangent would be lost; "
            "pass forward_ad.unpack_dual(value).primal"
        )


def _is_dual(tensor: torch.Tensor) -> bool:
    with suppress(NotImplementedError):  # of sparse ones
        return forward_ad.unpack_dual(tensor).tangent is not None
    return False


def restored(value: torch.Tensor) -> torch.Tensor:
    """Returns a tensor that has arrived, coalesced if it was sent so.

    See jit/runtime/message.py, Note [Coalesced tensors].
    """
    if (
        value.layout is not torch.strided
        and _torch.indices_of(value).storage_offset() == MARK
        and not value.is_coalesced()
    ):
        with torch.no_grad():  # there is no derivative of it
            _torch.set_coalesced(value)
    return value


def restored_any(value: Any) -> Any:
    """Returns a value of type Any that has arrived, with its tensors restored."""
    match value:
        case torch.Tensor():
            restored(value)
        case list():
            _restore_all(value)
        case tuple():
            for part in value:
                restored_any(part)
        case dict():
            _restore_all(value.values())
    return value


_SCALARS: Final = frozenset({NoneType, bool, int, float, complex, str, torch.device})


def _restore_all(parts: Collection[Any]) -> None:
    """Restores the parts of a list or dict inside Any. Most have scalars alone, and then it calls nothing for each."""
    if not _SCALARS.issuperset(map(type, parts)):
        for part in parts:
            restored_any(part)


def restorer(kind: Type) -> Callable[[Any], Any] | None:
    """Makes the function that restores a value that needs no unpacking. None if it can have no tensor."""
    restore = _restore_within(kind)
    if restore is None or kind == TENSOR:
        return restore

    def restore_all(value: Any) -> Any:
        restore(value)
        return value

    return restore_all


def _restore_within(kind: Type) -> Callable[[Any], object] | None:
    """Makes the function that restores the tensors in a value. None if it can have none."""
    match kind:
        case TensorType():
            return restored
        case OptionalType(item):
            inner = _restore_within(item)
            return inner and (lambda value: value is None or inner(value))
        case ListType(item):
            return _on_all(_restore_within(item))
        case DictType(key, item):
            on_keys, on_values = _on_all(_restore_within(key)), _on_all(_restore_within(item))
            return (on_keys or on_values) and (
                lambda value: (on_keys and on_keys(value), on_values and on_values(value.values()))
            )
        case TupleType(items):
            inners = [(place, inner) for place, item in enumerate(items) if (inner := _restore_within(item))]
            return (lambda value: [inner(value[place]) for place, inner in inners]) if inners else None
    return None


def _on_all(inner: Callable[[Any], object] | None) -> Callable[[Any], object] | None:
    """Makes the function that calls `inner` for each item of a collection."""

    def each(values: Iterable[Any]) -> None:
        for value in values:
            inner(value)  # type: ignore[misc]

    return inner and each
