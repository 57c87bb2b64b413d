"""Errors for values that do not fit a declared type, with what to write instead."""

from __future__ import annotations

import enum
from typing import Any, Final

import torch

from ..errors import ArgumentError
from ..jit.read.shown import shown
from ..jit.read.types import TENSOR, EnumType, ListType, NamedTupleType, TupleType, Type, walk

_NUMBERS: Final = (int, float, complex)


class Inside:
    """Names the place of a part in a value. The text is made when an error asks for it, so a call makes none."""

    __slots__ = ("_form", "_part", "_where")

    def __init__(self, where: str | Inside, part: Any, form: str = "[{}]") -> None:
        self._where = where
        self._part = part
        self._form = form

    def __str__(self) -> str:
        part = self._part if self._form.startswith(".") else shown(self._part)
        return f"{self._where}{self._form.format(part)}"


def misfit(where: str | Inside, value: object, kind: Type) -> ArgumentError:
    """Makes the error for a value that does not fit `kind`.

    Args:
        where: interface, method, argument, and the place in it.
    """
    return ArgumentError(f"{where}: {shown(value)} is no {kind}{_remedy(value, kind)}")


def _remedy(value: object, kind: Type) -> str:
    if isinstance(value, torch.fx.Proxy):
        return (
            " while torch.fx traces, which cannot look into a stub; trace with a torch.fx.Tracer whose is_leaf_module "
            "returns True for stubs"
        )
    if isinstance(value, int) and str(kind) in ("float", "complex"):
        return ": it cannot hold this integer exactly; pass a float, or declare int"
    if isinstance(value, (int, str)) and str(kind) == value.__class__.__name__:
        return " of 64 bits" if isinstance(value, int) else " that UTF-8 can encode"
    if isinstance(value, tuple) and isinstance(kind, (TupleType, NamedTupleType)):
        return f"; {len(kind.items)} items are wanted, and {len(value)} there"
    if isinstance(value, enum.Enum) and any(
        isinstance(part, EnumType) and part.name == f"{type(value).__module__}.{type(value).__qualname__}"
        for part in walk(kind)
    ):
        return (
            ", as the interface has it: the class was defined again, as a cell of a notebook does that is run again; "
            "define the interface again, too, and make the stub anew, or pass a member of the class that it has"
        )
    if isinstance(kind, EnumType):
        return f"; pass one of its members, {', '.join(name for name, _ in kind.members)}"
    if value is None:
        return f"; declare Optional[{kind}] if it may be None"
    if kind == TENSOR:
        return _for_a_tensor(value)
    if isinstance(kind, ListType) and isinstance(value, torch.Tensor):
        return "; write list(...) around it, for its rows" if kind.item == TENSOR else "; write .tolist() after it"
    if isinstance(kind, ListType) and _is_array(value):
        return "; write list(torch.as_tensor(...)) around it" if kind.item == TENSOR else "; write .tolist() after it"
    return f"; give a value of type {kind}, or declare another type"


def _for_a_tensor(value: object) -> str:
    """Says how a tensor is made of `value`, if one can be."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, torch.Tensor) for item in value):
        return "; write torch.stack(...) around it, or declare List[Tensor]"
    if isinstance(value, (list, tuple, *_NUMBERS)) or _is_array(value):
        return "; write torch.as_tensor(...) around it"
    return "; give a tensor, or declare another type"


def _is_array(value: object) -> bool:
    """Says whether `value` is an array of numpy or of something like it."""
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__")
