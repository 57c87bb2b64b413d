"""Packs the arguments of callers in Python into their wire types, and unpacks results.

It does in Python what a stub's own code does in TorchScript (jit/lower/convert.py): see jit/lower/plan.py, Note [Wire
types]. If a value does not fit, the error names its place in the argument and says what is wrong.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import torch

from .. import _torch
from .._torch import PyRRef
from ..errors import ArgumentError
from ..jit import Classes
from ..jit.read.literals import DeviceValue, DtypeValue, MemberValue, NamedTupleValue, Value
from ..jit.read.model import Method, Required
from ..jit.read.shown import shown
from ..jit.read.types import (
    AnyType,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    RRefType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
    UnionType,
)
from .misfits import Inside, misfit
from .rref_types import check_reference
from .scalars import as_scalar, dtype_codes, dtypes_by_code, is_integer, keys_for_any
from .tensors import check_plain, restored, restored_any

_TEXTS: Final = (str, bytes, bytearray)
_DEEPEST: Final = 6
"""The most levels of containers in a value of type Any: those of jit/runtime/any.py, and two in its leaves."""
_OF_A_LIST: Final = "a list inside Any has items of one type, in all that they hold; pass a tuple, or declare the type"
_OF_A_DICT: Final = "a dict inside Any has values of one type, in all that they hold; declare a NamedTuple"


class PythonPacker:
    """Packs and unpacks values of one interface's types."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes

    # -- packing

    def pack(self, value: Any, kind: Type, where: str | Inside, exact: bool = False) -> Any:
        """Packs `value`, which is declared as `kind`, into its wire type.

        Args:
            where: names the value in errors.
            exact: refuses a value that has to be converted, such as an int for a float.

        Raises:
            ArgumentError: `value` does not fit `kind`.
        """
        match kind:
            case TensorType() if isinstance(value, torch.Tensor):
                check_plain(value, where)
                return value
            case ScalarType("dtype") if isinstance(value, torch.dtype):
                return dtype_codes()[value]
            case ScalarType(name):
                with suppress(TypeError, ValueError, OverflowError):
                    return as_scalar(value, name, exact)
            case AnyType():
                return self._pack_any(value, where)
            case EnumType(members=members):
                if isinstance(value, self._classes[kind]):
                    return [name for name, _ in members].index(value.name)
            case OptionalType(item):
                return None if value is None else self.pack(value, item, where, exact)
            case UnionType():
                return self._pack_union(value, kind, where, exact)
            case ListType(item) if isinstance(value, list if exact else Sequence) and not isinstance(value, _TEXTS):
                return [self.pack(part, item, Inside(where, n), exact) for n, part in enumerate(value)]
            case DictType(key_type, item) if isinstance(value, Mapping):
                return self._pack_dict(value, key_type, item, where, exact)
            case TupleType(items) if _is_tuple(value, exact) and len(value) == len(items):
                return tuple(
                    self.pack(part, item, Inside(where, n), exact)
                    for n, (part, item) in enumerate(zip(value, items, strict=True))
                )
            case NamedTupleType(fields=fields) if isinstance(value, self._classes[kind] if exact else tuple) and len(
                value
            ) == len(fields):
                return tuple(
                    self.pack(part, item, Inside(where, field, ".{}"), exact)
                    for part, (field, item) in zip(value, fields, strict=True)
                )
            case RRefType() if isinstance(value, PyRRef):
                check_reference(value, kind, where)
                return value
        raise misfit(where, value, kind)

    def _pack_dict(
        self, value: Mapping[Any, Any], key_type: Type, item: Type, where: str | Inside, exact: bool
    ) -> dict[Any, Any]:
        """Packs a dict. Raises ArgumentError if two of its keys become one, too."""
        packed: dict[Any, Any] = {}
        for count, (key, part) in enumerate(value.items()):
            packed_key = self.pack(key, key_type, Inside(where, key, ", its key {}"), exact)
            packed[packed_key] = self.pack(part, item, Inside(where, key), exact)
            if len(packed) == count:
                raise ArgumentError(
                    f"{where}, its key {shown(key)}: another key is the same {key_type}; pass a dict whose keys are "
                    f"of type {key_type}, or a list of pairs"
                )
        return packed

    def _pack_union(self, value: Any, kind: UnionType, where: str | Inside, exact: bool) -> tuple[Any, ...]:
        """Packs a value of a Union: a tuple with a place for each member, all None but one."""
        for item in kind.items:
            if self._is_of_class(value, item):
                packed = self.pack(value, item, where, exact)
                return tuple(packed if member is item else None for member in kind.items)
        # A member that fits exactly comes first. Otherwise the value is converted to the narrowest member that fits.
        others = [item for item in kind.narrowest_first if not isinstance(item, NamedTupleType)]
        for exactly in (True,) if exact else (True, False):
            for item in others:
                with suppress(ArgumentError):
                    packed = self.pack(value, item, where, exactly)
                    return tuple(packed if member is item else None for member in kind.items)
                if str(item) == "int" and is_integer(value):
                    break  # an int that is too large must not become a float
        raise misfit(where, value, kind)

    def _is_of_class(self, value: Any, kind: Type) -> bool:
        """Says whether `value` can only be meant as `kind`, because of its class. Its parts may still be wrong."""
        match kind:
            case TensorType():
                return isinstance(value, torch.Tensor)
            case EnumType() | NamedTupleType():
                return isinstance(value, self._classes[kind])
        return False

    def _pack_any(self, value: Any, where: str | Inside, around: tuple[Any, ...] = ()) -> Any:
        """Packs a value that is declared as Any, or raises ArgumentError. `around`: the containers that it is in."""
        match value:
            case None | bool() | float() | complex() | torch.device():
                return value
            case torch.Tensor():
                check_plain(value, where)
                return value
            case torch.dtype():
                return dtype_codes()[value]
            case enum.Enum():
                raise ArgumentError(f"{where}: {shown(value)} cannot cross inside Any; declare {type(value).__name__}")
            case int() if -(2**63) <= value < 2**63:
                return value
            case str():
                with suppress(UnicodeEncodeError):
                    return as_scalar(value, "str", exact=False)
            case list() | dict() | tuple() if len(around) >= _DEEPEST or any(value is outer for outer in around):
                contains_itself = any(value is outer for outer in around)
                found = "that contains itself" if contains_itself else f"inside {_DEEPEST} others"
                raise ArgumentError(
                    f"{where}: a {type(value).__name__} {found} cannot cross inside Any; "
                    f"possible are {_DEEPEST} levels of tuples, lists and dicts; pass a flatter value"
                )
            case list() | dict() if not value:
                raise ArgumentError(
                    f"{where}: an empty {type(value).__name__} inside Any has no type; declare it, as in List[Tensor]"
                )
            case list():
                _check_one_type(value, where, _OF_A_LIST)
                items = [self._pack_any(part, Inside(where, n), (*around, value)) for n, part in enumerate(value)]
                _check_one_type_within(items, items, where, _OF_A_LIST)
                return items
            case tuple():
                return tuple(self._pack_any(part, Inside(where, n), (*around, value)) for n, part in enumerate(value))
            case dict():
                _check_one_type(value.values(), where, _OF_A_DICT)
                parts = zip(keys_for_any(value, where), value.values(), strict=True)
                packed = {key: self._pack_any(part, Inside(where, key), (*around, value)) for key, part in parts}
                _check_one_type_within(packed, packed.values(), where, _OF_A_DICT)
                return packed
        raise ArgumentError(
            f"{where}: {shown(value)} cannot cross inside Any; "
            "possible are tensors, scalars (an int of 64 bits), and tuples, lists and dicts of these"
        )

    # -- unpacking

    def unpack(self, value: Any, kind: Type) -> Any:
        """Turns `value`, which is of the wire type of `kind`, into a `kind`."""
        match kind:
            case TensorType():
                return restored(value)
            case AnyType():
                return restored_any(value)
            case EnumType():
                cls: Any = self._classes[kind]
                return [*cls][value]
            case ScalarType("dtype"):
                return dtypes_by_code()[value]
            case OptionalType(item):
                return None if value is None else self.unpack(value, item)
            case UnionType(items):
                for part, item in zip(value, items, strict=True):
                    if part is not None:
                        return self.unpack(part, item)
            case ListType(item):
                return [self.unpack(part, item) for part in value]
            case DictType(key_type, item):
                return {self.unpack(key, key_type): self.unpack(part, item) for key, part in value.items()}
            case TupleType(items):
                return tuple(self.unpack(part, item) for part, item in zip(value, items, strict=True))
            case NamedTupleType():
                parts = zip(value, kind.items, strict=True)
                return _made(self._classes[kind], (self.unpack(part, item) for part, item in parts))
        return value

    # -- defaults

    def defaults_of(self, method: Method) -> dict[str, Any]:
        """Returns the defaults of a method's arguments, by name, as Python values."""
        return {
            argument.name: self.python_default(argument.default)
            for argument in method.arguments
            if not isinstance(argument.default, Required)
        }

    def python_default(self, default: Value) -> Any:
        """Returns the Python value for a default of the model."""
        match default:
            case DtypeValue(name):
                return getattr(torch, name)
            case DeviceValue(name):
                return torch.device(name)
            case MemberValue(path, name):
                return getattr(self._class(path), name)
            case NamedTupleValue(path, items):
                return _made(self._class(path), map(self.python_default, items))
            case tuple():
                return tuple(map(self.python_default, default))
        return default

    def _class(self, path: str) -> Any:
        return next(cls for named, cls in self._classes.items() if named.name == path)


def _is_tuple(value: Any, exact: bool) -> bool:
    return type(value) is tuple if exact else isinstance(value, tuple)


def _made(cls: Any, items: Iterable[Any]) -> Any:
    """Makes a NamedTuple of its fields. A `__new__` of the class may take others, and change them."""
    return tuple.__new__(cls, items)


def _check_one_type(parts: Iterable[Any], where: str | Inside, rule: str) -> None:
    """Raises ArgumentError if the items of a list or dict in Any are of several classes. One may be None."""
    classes = {torch.Tensor if isinstance(part, torch.Tensor) else type(part) for part in parts if part is not None}
    if len(classes) > 1:
        raise ArgumentError(f"{where}: {rule}")


def _check_one_type_within(packed: Any, parts: Iterable[Any], where: str | Inside, rule: str) -> None:
    """Raises ArgumentError if TorchScript finds no type for a list or dict, because its containers differ inside."""
    if any(isinstance(part, (list, dict, tuple)) for part in parts) and not _torch.has_type(packed):
        raise ArgumentError(f"{where}: {rule}")
