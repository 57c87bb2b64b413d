"""Python values on their way into a call and out of a result: packed as they cross, and unpacked.

This is what the stub's own code does in TorchScript (jit/convert.py), for callers in Python: see jit/plan.py, Note
[Wire types]. It also says what is wrong with a value that does not fit, by its place in the argument.
"""

from __future__ import annotations

import enum
import functools
import operator
from contextlib import suppress
from typing import Any, SupportsFloat, SupportsIndex

import torch

from .errors import ArgumentError
from .jit import Classes
from .jit.annotations import SCALAR_CLASSES
from .jit.literals import DeviceValue, DtypeValue, MemberValue, NamedTupleValue, Value
from .jit.types import (
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


class Translator:
    """Between the values of one interface's types and what crosses for them."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes

    # -- in

    def pack(self, value: Any, type: Type, where: str, exact: bool = False) -> Any:
        """`value`, of `type`, as it crosses.

        Args:
            where: what an error calls it.
            exact: refuse what would have to be converted, such as an int where a float is declared.

        Raises:
            ArgumentError: `value` is no `type`.
        """
        match type:
            case TensorType() if isinstance(value, torch.Tensor):
                return value
            case ScalarType("dtype") if isinstance(value, torch.dtype):
                return _codes()[value]
            case ScalarType(name):
                with suppress(TypeError, ValueError, OverflowError):
                    return _scalar(value, name, exact)
            case AnyType():
                return self._pack_any(value, where)
            case EnumType(members=members):
                if isinstance(value, self._classes[type]):
                    return [name for name, _ in members].index(value.name)
            case OptionalType(item):
                return None if value is None else self.pack(value, item, where, exact)
            case UnionType():
                return self._pack_union(value, type, where)
            case ListType(item) if isinstance(value, list if exact else (list, tuple)):
                return [self.pack(part, item, f"{where}[{n}]", exact) for n, part in enumerate(value)]
            case DictType(key_type, item) if isinstance(value, dict):
                return {
                    self.pack(key, key_type, f"a key of {where}", exact): self.pack(
                        part, item, f"{where}[{key!r}]", exact
                    )
                    for key, part in value.items()
                }
            case TupleType() | NamedTupleType() if isinstance(value, tuple) and len(value) == len(type.items):
                return tuple(
                    self.pack(part, item, f"{where}[{n}]", exact)
                    for n, (part, item) in enumerate(zip(value, type.items, strict=True))
                )
            case RRefType() if isinstance(value, torch.distributed.rpc.RRef):
                return value
        raise _misfit(where, value, type)

    def _pack_union(self, value: Any, type: UnionType, where: str) -> tuple[Any, ...]:
        for exact in (True, False):
            for place, item in enumerate(type.items):
                # A NamedTuple is also a tuple; it goes where its own class is.
                if isinstance(item, NamedTupleType) and not isinstance(value, self._classes[item]):
                    continue
                with suppress(ArgumentError):
                    packed = self.pack(value, item, where, exact)
                    return (*(None for _ in range(place)), packed, *(None for _ in type.items[place + 1 :]))
        raise _misfit(where, value, type)

    def _pack_any(self, value: Any, where: str) -> Any:
        match value:
            case None | bool() | float() | complex() | torch.Tensor() | torch.device():
                return value
            case torch.dtype():
                return _codes()[value]
            case enum.Enum():
                raise ArgumentError(f"{where}: {value!r} cannot cross inside Any; declare {type(value).__name__}")
            case int() if -(2**63) <= value < 2**63:
                return value
            case str():
                with suppress(UnicodeEncodeError):
                    return _scalar(value, "str", exact=False)
            case list() | dict() if not value:
                raise ArgumentError(
                    f"{where}: an empty {type(value).__name__} inside Any has no type; declare it, as in List[Tensor]"
                )
            case list() if len({type(part) for part in value if part is not None}) > 1:
                raise ArgumentError(
                    f"{where}: a list inside Any has items of one type; pass a tuple, or declare the type"
                )
            case dict() if len({type(part) for part in value.values() if part is not None}) > 1:
                raise ArgumentError(f"{where}: a dict inside Any has values of one type; declare a NamedTuple")
            case list():
                return [self._pack_any(part, f"{where}[{n}]") for n, part in enumerate(value)]
            case tuple():
                return tuple(self._pack_any(part, f"{where}[{n}]") for n, part in enumerate(value))
            case dict():
                return {key: self._pack_any(part, f"{where}[{key!r}]") for key, part in value.items()}
        raise ArgumentError(
            f"{where}: a {type(value).__name__} cannot cross inside Any; "
            "possible are tensors, scalars, and tuples, lists and dicts of these"
        )

    # -- out

    def unpack(self, value: Any, type: Type) -> Any:
        """What crossed as `value`, as the `type` that was declared."""
        match type:
            case EnumType():
                cls: Any = self._classes[type]
                return [*cls][value]
            case ScalarType("dtype"):
                return _dtypes()[value]
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
                parts = zip(value, type.items, strict=True)
                return self._classes[type](*(self.unpack(part, item) for part, item in parts))
        return value

    def value_of(self, default: Value) -> Any:
        """The Python value that a default of the model stands for."""
        match default:
            case DtypeValue(name):
                return getattr(torch, name)
            case DeviceValue(name):
                return torch.device(name)
            case MemberValue(path, name):
                return getattr(self._class(path), name)
            case NamedTupleValue(path, items):
                return self._class(path)(*map(self.value_of, items))
            case tuple():
                return tuple(map(self.value_of, default))
        return default

    def _class(self, path: str) -> Any:
        return next(cls for named, cls in self._classes.items() if named.name == path)


def _scalar(value: Any, name: str, exact: bool) -> Any:
    """`value` as torch would convert it to a scalar type; raises what Python raises where it cannot be."""
    if exact and type(value) is not SCALAR_CLASSES[name]:
        raise TypeError
    match name:
        case "int" if isinstance(value, SupportsIndex):
            number = operator.index(value)
            if -(2**63) <= number < 2**63:
                return number
        case "float" if isinstance(value, SupportsFloat) and not isinstance(value, str):
            return float(value)
        case "complex" if isinstance(value, (SupportsFloat, complex)):
            return complex(value)
        case "bool" if isinstance(value, bool):
            return value
        case "str" if isinstance(value, str):
            value.encode()  # a lone surrogate is no text
            return str(value)
        case "device" if isinstance(value, torch.device):
            return value
        case "None" if value is None:
            return None
    raise TypeError


def _misfit(where: str, value: object, type: Type) -> ArgumentError:
    brief = isinstance(value, (int, float, complex, str, enum.Enum, torch.dtype, torch.device))
    found = "None" if value is None else f"{value!r:.60}" if brief else f"a {value.__class__.__name__}"
    return ArgumentError(f"{where}: {found} is no {type}")


@functools.cache
def _codes() -> dict[torch.dtype, int]:
    """The integer that TorchScript has for each dtype."""
    code = torch.jit.CompilationUnit("def code(dtype: int) -> int:\n    return dtype\n").code
    return {dtype: code(dtype) for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


@functools.cache
def _dtypes() -> dict[int, torch.dtype]:
    return {code: dtype for dtype, code in _codes().items()}
