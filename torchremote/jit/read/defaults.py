"""The default of an argument -> a value of the model, of exactly the declared type."""

from __future__ import annotations

import enum
from contextlib import suppress
from typing import Any

import torch

from ...errors import InterfaceError
from .annotations import SCALAR_CLASSES, path_of
from .literals import CONSTANTS, DeviceValue, DtypeValue, MemberValue, NamedTupleValue, Value
from .refusals import CannotCross
from .shown import repr_of
from .types import (
    SCALARS,
    AnyType,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
    UnionType,
)


def read_default(where: str, value: Any, kind: Type) -> Value:
    """Converts a default to a value of exactly `kind`. A caller who leaves the argument out has passed it."""
    match kind:
        case OptionalType(item):
            return None if value is None else read_default(where, value, item)
        case UnionType():
            default = _default_in_union(where, value, kind)
            if default is not None:
                return default
        case AnyType():
            for name in SCALARS:
                if _is_exactly(value, ScalarType(name)):
                    return read_default(where, value, ScalarType(name))
            found = repr_of(value)
            raise InterfaceError(f"{where}: a default of type Any is a scalar or None, not {found}; declare its type")
        case ScalarType("None") if value is None:
            return None
        case ScalarType("bool") if isinstance(value, bool):
            return value
        case ScalarType("int") if isinstance(value, int) and not isinstance(value, bool):
            if -(2**63) <= value < 2**63:
                return int(value)
        case ScalarType("float") if isinstance(value, (int, float)) and not isinstance(value, bool):
            if _fits_float(value):
                return float(value)
        case ScalarType("complex") if isinstance(value, (int, float, complex)) and not isinstance(value, bool):
            if _fits_float(value):
                return complex(value)
        case ScalarType("str") if isinstance(value, str):
            if not any("\ud800" <= character <= "\udfff" for character in value):
                return str.__str__(value)  # not the member's name, if it is one of an enum
        case ScalarType("device") if isinstance(value, torch.device):
            return DeviceValue(str(value))
        case ScalarType("dtype") if isinstance(value, torch.dtype):
            return DtypeValue(str(value).removeprefix("torch."))
        case EnumType(name) if isinstance(value, enum.Enum) and _is_of_class(value, name):
            if value.name in CONSTANTS:
                raise InterfaceError(
                    f"{where}: TorchScript cannot write {value} as a default; rename the member, or declare "
                    f"Optional[{type(value).__name__}] = None"
                )
            return MemberValue(name, value.name)
        case NamedTupleType(name) if isinstance(value, tuple) and _is_of_class(value, name):
            if _has_own_new(type(value)):
                raise InterfaceError(
                    f"{where}: TorchScript would make this default with the __new__ of {name}, which may take other "
                    f"fields; declare Optional[{name}] = None"
                )
            pairs = zip(value, kind.items, strict=True)
            return NamedTupleValue(name, tuple(read_default(where, element, item) for element, item in pairs))
        case ListType() | DictType():
            raise InterfaceError(
                f"{where}: TorchScript has no default that can change; declare Optional[{kind}] = None"
            )
        case TupleType(items) if isinstance(value, tuple) and len(value) == len(items):
            return tuple(read_default(where, element, item) for element, item in zip(value, items, strict=True))
        case TensorType():
            raise InterfaceError(f"{where}: a Tensor has no literal; declare Optional[Tensor] = None")
    raise InterfaceError(f"{where}: the default {repr_of(value)} is no {kind}; change one of them")


def _default_in_union(where: str, value: Any, kind: UnionType) -> Value:
    """Returns the default as a value of the narrowest member of a Union that it fits; None if there is none.

    One that takes it as it is comes before one to which it would be converted.
    """
    fitting: list[Value] = []
    for item in sorted(kind.narrowest_first, key=lambda item: not _is_meant(value, item)):
        with suppress(InterfaceError):
            fitting.append(read_default(where, value, item))
    default = next((one for one in fitting if _is_unchanged(value, one)), fitting[0] if fitting else None)
    if isinstance(default, (MemberValue, NamedTupleValue)):
        raise InterfaceError(
            f"{where}: TorchScript takes no member of an enum and no NamedTuple as the default of a Union; declare "
            f"Optional[{kind}] = None"
        )
    return default


def _has_own_new(cls: type) -> bool:
    """Says whether a NamedTuple class has a `__new__` beside the one that takes all fields."""
    return "_fields" not in vars(next(base for base in cls.__mro__ if "__new__" in vars(base)))


def _fits_float(value: complex) -> bool:
    """Says whether a float can hold `value` exactly, if it is an int."""
    try:
        return not isinstance(value, int) or int(float(value)) == value
    except OverflowError:
        return False


def _is_of_class(value: object, path: str) -> bool:
    with suppress(CannotCross):  # a class that no worker can import is not the declared one
        return path_of(type(value)) == path
    return False


def _is_meant(value: object, kind: Type) -> bool:
    """Says whether the class of `value` is that of `kind`. A member of an IntEnum is a number only after it."""
    return _is_of_class(value, kind.name) if isinstance(kind, (EnumType, NamedTupleType)) else _is_exactly(value, kind)


def _is_unchanged(value: Any, default: Value) -> bool:
    """Says whether `default` is `value`, or stands for it."""
    if isinstance(default, NamedTupleValue):
        return all(map(_is_unchanged, value, default.items))
    if isinstance(default, tuple):
        return type(value) is tuple and all(map(_is_unchanged, value, default))
    return isinstance(default, (DtypeValue, DeviceValue, MemberValue)) or type(value) is type(default)


def _is_exactly(value: object, kind: Type) -> bool:
    return isinstance(kind, ScalarType) and SCALAR_CLASSES[kind.name] is type(value)
