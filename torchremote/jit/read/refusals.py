"""Says why an annotation cannot cross, and what to write instead."""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Iterable
from typing import Any, Final, Union

import torch
from torch.distributed.rpc import RRef

from .shown import repr_of

POSSIBLE: Final = (
    "Tensor, int, float, bool, complex, str, None, torch.device, torch.dtype, Any, Enum and NamedTuple classes, RRef, "
    "and Optional, Union, List, Dict and Tuple of these"
)

NO_GENERIC_CLASSES: Final = "TorchScript has no generic classes; name the types of its fields"
BARE: Final = "write what is inside, as in List[Tensor] or Dict[str, Tensor]"
_NEVER: Final[dict[object, str]] = {
    set: "TorchScript has no sets; pass a List",
    frozenset: "TorchScript has no sets; pass a List",
    collections.abc.Set: "TorchScript has no sets; pass a List",
    bytes: "TorchScript has no bytes; pass a str, or a uint8 Tensor",
    bytearray: "TorchScript has no bytes; pass a str, or a uint8 Tensor",
    collections.abc.Callable: "code does not cross; give the method a str or an Enum that says which",
    collections.abc.Iterator: "an iterator cannot cross; pass a List",
    collections.abc.Generator: "an iterator cannot cross; pass a List",
    collections.abc.Awaitable: "an awaitable cannot cross; declare the plain type, stubs have <m>_async",
    collections.abc.Coroutine: "an awaitable cannot cross; declare the plain type, stubs have <m>_async",
    torch.futures.Future: "a Future cannot cross; declare the plain type, stubs have <m>_async",
    torch.Generator: "torch cannot send a Generator; pass a seed as an int",
    torch.Stream: "a stream belongs to its process",
    object: "write Any",
    type: "code does not cross; give the method a str or an Enum that says which",
    tuple: BARE,
    Union: BARE,
    typing.Optional: BARE,
    RRef: "write what it refers to, as in RRef[Tensor]",
}
_NOT_YET: Final[dict[object, str]] = {
    torch.layout: "declare it as an int, which is what TorchScript has for it",
    torch.memory_format: "declare it as an int, which is what TorchScript has for it",
    torch.qscheme: "declare it as an int, which is what TorchScript has for it",
    torch.SymInt: "declare it as an int",
}


class CannotCross(Exception):
    """Says that a type cannot cross, and what to do. It is caught where the argument's name is known."""


class CannotCrossYet(CannotCross):
    """Says that torchremote could carry a type, but does not."""


def never(annotation: Any, remedy: str) -> CannotCross:
    """Makes the error of an annotation whose values can never cross."""
    return CannotCross(f"{spell(annotation)} cannot cross; possible are {POSSIBLE}; {remedy}")


def refusal(annotation: Any, kind: Any) -> CannotCross:
    """Makes the error of an annotation that means no type. A bare list or dict is the affair of annotations.py.

    Args:
        kind: its origin, as `typing.get_origin` has it; or itself, if it is a class.
    """
    for table, error, verdict in (
        (_NOT_YET, CannotCrossYet, "cannot cross yet"),
        (_NEVER, CannotCross, "cannot cross"),
    ):
        for refused, remedy in table.items():
            if refused is annotation or refused is kind:
                return error(f"{spell(annotation)} {verdict}; possible are {POSSIBLE}; {remedy}")
    if is_class(kind) and kind is not annotation and hasattr(kind, "_fields"):
        return never(annotation, NO_GENERIC_CLASSES)
    if isinstance(annotation, (typing.TypeVar, typing.ParamSpec)):
        return never(annotation, "TorchScript has no generic methods: name the type, one method or interface each")
    if isinstance(annotation, type) and any("__call__" in vars(base) for base in annotation.__mro__):
        return never(annotation, "a module or callable stays on its owner; pass what it computes")
    return never(annotation, "pass what it holds in one of these, for example in a NamedTuple")


def is_one_of(value: object, ones: Iterable[object]) -> bool:
    """Says whether `value` is one of `ones`. An annotation may be anything: an array, or what has no hash."""
    return any(value is one for one in ones)


def spell(annotation: Any) -> str:
    """Words an annotation as it was written."""
    return str(annotation.__qualname__) if is_class(annotation) else repr_of(annotation)


def why(error: Exception) -> str:
    """Says why an annotation could not be evaluated, and what to do if a name is missing."""
    missing = "; define or import it at the top level of the module, and not under `if TYPE_CHECKING`"
    return f"{error}{missing if isinstance(error, NameError) else ''}"


def is_class(annotation: Any) -> bool:
    """Says whether an annotation is a class, and not one of a generic type such as `list[int]`."""
    return isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias)
