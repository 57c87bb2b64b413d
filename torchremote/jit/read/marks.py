"""Marks methods of interfaces: `batched`, `detached` and `idempotent`."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ...errors import InterfaceError
from .model import Method
from .shown import repr_of
from .types import (
    TENSOR,
    AnyType,
    DictType,
    ListType,
    NamedTupleType,
    OptionalType,
    RRefType,
    ScalarType,
    TupleType,
    Type,
    walk,
)

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK: Final = "__torchremote_"
_MOST_DIMENSIONS: Final = 64  # of a tensor, in torch


def batched(dim: int = 0) -> Callable[[Function], Function]:
    """Declares that a method of an interface treats the slices of its tensors along `dim` one by one.

    Many calls of it may then become one. `<m>_many` concatenates their tensors along `dim`, makes one call, and splits
    the result. Tensors may stand in Optionals, lists, dicts, tuples, NamedTuples and Unions. Calls are joined if all
    else in their arguments is equal: numbers, strings, what is None, the lengths of lists, and the keys of dicts in
    their order; and if the tensors have one dtype, one device, and one shape but for `dim`. Otherwise `<m>_many` makes
    the calls one by one. The results are views of one tensor: they share its memory, and whether it requires a
    gradient. If the one call fails, nobody knows which of the many made it fail.

    An owner can do the same for calls that many callers make one by one: see the argument `gather` of `create`.

    Args:
        dim: the dimension, of every tensor in the arguments and in the result. The result is made of tensors.

    Returns:
        A decorator for methods.

    Raises:
        InterfaceError: `dim` is no dimension, or what is decorated is no method.

    >>> from torch import Tensor
    >>> class Encoder:
    ...     @batched(0)
    ...     def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...
    """
    if not isinstance(dim, int) or isinstance(dim, bool) or not -_MOST_DIMENSIONS <= dim < _MOST_DIMENSIONS:
        raise InterfaceError(f"batched({repr_of(dim)}): not the number of a dimension; write @batched(0)")

    def mark(function: Function) -> Function:
        return _marked(function, "batched", dim, f"batched({dim})")

    return mark


def detached(function: Function) -> Function:
    """Declares that a method of an interface carries no gradients.

    The tensors in its arguments are detached before they are sent, and those in its result on the owner. The method
    itself runs as it is, and may compute gradients of its own. This is part of the interface: caller and owner see it.

    Raises:
        InterfaceError: what is decorated is no method.

    >>> from torch import Tensor
    >>> class Policy:
    ...     def forward(self, x: Tensor) -> Tensor: ...
    ...     @detached
    ...     def act(self, x: Tensor) -> Tensor: ...
    """
    return _marked(function, "detached", True, "detached")


def idempotent(function: Function) -> Function:
    """Declares that a method of an interface may run twice, or more often, where once was wanted.

    A call that gets lost is then sent again, with growing pauses, until the stub's timeout has passed: to the same
    worker, when it is back in the group and serves the module under its name. So the stub has to be one of a module
    with a name. A call of replicas goes to another one. A scripted model sends again only with the native part. An
    owner that gathers calls runs those of a batch that failed again, one by one; otherwise it does not see the mark.

    Raises:
        InterfaceError: what is decorated is no method.

    >>> from torch import Tensor
    >>> class Embedding:
    ...     @idempotent
    ...     def forward(self, ids: Tensor) -> Tensor: ...
    """
    return _marked(function, "idempotent", True, "idempotent")


def _marked(function: Function, mark: str, value: object, written: str) -> Function:
    """Marks a method. `written`: the decorator, as an error shows it."""
    if not isinstance(function, types.FunctionType):
        raise InterfaceError(f"{written}: for methods, and not for {repr_of(function)}")
    setattr(function, _MARK + mark, value)
    return function


def marks_of(function: types.FunctionType) -> dict[str, Any]:
    """Returns the marks of a method, as fields of `Method`."""
    marks = ("batched", "detached", "idempotent")
    return {name: getattr(function, _MARK + name) for name in marks if hasattr(function, _MARK + name)}


def check_batched(where: str, method: Method) -> None:
    """Raises InterfaceError if calls of a batched method cannot be joined."""
    if method.batched is None:
        return
    if not any(part == TENSOR for argument in method.arguments for part in walk(argument.type)):
        raise InterfaceError(f"{where}: batched, and has no Tensor to concatenate; declare one, or drop @batched")
    for argument in method.arguments:
        for part in walk(argument.type):
            tensor_keys = isinstance(part, DictType) and part.key == TENSOR
            if tensor_keys or isinstance(part, (AnyType, RRefType)) or part == ScalarType("complex"):
                raise InterfaceError(
                    f"{where}.{argument.name}: {part} can be neither concatenated nor compared; arguments of a batched "
                    "method are made of Tensors, numbers, strings, devices, dtypes and enums; drop @batched"
                )
    if not _is_made_of_tensors(method.returns):
        raise InterfaceError(
            f"{where}.return: {method.returns} cannot be split; a batched method returns a Tensor, or Tensors in "
            "Optionals, lists, dicts, tuples or NamedTuples"
        )


def _is_made_of_tensors(kind: Type) -> bool:
    """Says whether a result has a part for each call: a number, for one, would be that of all calls."""
    match kind:
        case OptionalType(item) | ListType(item):
            return _is_made_of_tensors(item)
        case DictType(key, value):
            return key != TENSOR and _is_made_of_tensors(value)
        case TupleType(items):
            return bool(items) and all(map(_is_made_of_tensors, items))
        case NamedTupleType():
            return bool(kind.items) and all(map(_is_made_of_tensors, kind.items))
    return kind == TENSOR
