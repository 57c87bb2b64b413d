"""Takes values apart along the types that an interface declares, and puts them together again.

`read_argument` takes apart an argument of an example. `read_result` takes apart what a module returned while it was
traced; the declared type decides, so a dataclass or a mapping can stand for a NamedTuple or a Dict. The leaves that the
graph computes with are tensors and integers. All else is a constant of the graph.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Union

import torch

from ...errors import ArgumentError, MismatchError, UnsupportedTypeError
from ..read.annotations import SCALAR_CLASSES
from ..read.shown import repr_of, shown
from ..read.types import (
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
)
from ..script.classes import Classes

SYMBOLIC: Final = (torch.SymInt, torch.SymFloat, torch.SymBool)
_CLASSES: Final[dict[str, type | tuple[type, ...]]] = {
    "int": int,
    "float": (float, int),
    "complex": (complex, float, int),
    "str": str,
    "device": torch.device,
    "dtype": torch.dtype,
}


@dataclass(frozen=True)
class Leaf:
    """A tensor or number that the graph takes or gives. `index`: its place among all of them."""

    index: int


@dataclass(frozen=True)
class Constant:
    """A value that is part of the graph."""

    value: Any


@dataclass(frozen=True)
class Several:
    """The items of a list, tuple or NamedTuple, or the values of a dict, which has `keys`."""

    items: tuple[Tree, ...]
    keys: tuple[Any, ...] | None = None


Tree = Union[Leaf, Constant, Several]
"""A value that was taken apart. An Optional has no node of its own: it is `Constant(None)`, or its item."""

NOTHING: Final = Constant(None)


class Reader:
    """Takes values apart, and collects their leaves. `takes_integers`: those of arguments are among them."""

    def __init__(self, classes: Classes, takes_integers: bool = True) -> None:
        self.leaves: list[Any] = []
        self._takes_integers = takes_integers
        self._classes = classes

    def read_argument(self, value: Any, kind: Type, where: str) -> Tree:
        """Takes apart an argument of an example.

        Raises:
            ArgumentError: it does not fit `kind`.
            UnsupportedTypeError: an exported module cannot have an argument of type `kind`.
        """
        match kind:
            case TensorType() if isinstance(value, torch.Tensor):
                return self._leaf(value)
            case ScalarType("int") if _fits(value, "int"):
                return self._leaf(value) if self._takes_integers else Constant(value)
            case DictType(key_type, item) if isinstance(value, Mapping) and _can_be_keys(key_type):
                _check_keys(value, key_type, where, ArgumentError)
                parts = [self.read_argument(part, item, f"{where}[{repr_of(key)}]") for key, part in value.items()]
                return Several(tuple(parts), tuple(value))
            case _:
                return self._read(value, kind, where, self.read_argument, ArgumentError)

    def read_result(self, value: Any, kind: Type, where: str) -> Tree:
        """Takes apart what a module returned.

        Raises:
            MismatchError: it does not fit `kind`.
            UnsupportedTypeError: an exported module cannot return a `kind`.
        """
        match kind:
            case TensorType() if isinstance(value, torch.Tensor):
                return self._leaf(value)
            case ScalarType(("int" | "float" | "bool") as name) if isinstance(value, SYMBOLIC):
                if isinstance(value, {"int": torch.SymInt, "float": torch.SymFloat, "bool": torch.SymBool}[name]):
                    return self._leaf(value)
            case DictType(key_type, item) if (found := _fields_of(value)) is not None and _can_be_keys(key_type):
                keys = [key for key, part in found.items() if part is not None or isinstance(item, OptionalType)]
                if isinstance(value, Mapping) and not dataclasses.is_dataclass(value):
                    keys = list(found)
                _check_keys(keys, key_type, where, MismatchError)
                parts = [self.read_result(found[key], item, f"{where}[{repr_of(key)}]") for key in keys]
                return Several(tuple(parts), tuple(keys))
            case NamedTupleType(fields=fields) if (found := _fields_of(value)) is not None:
                items = [self.read_result(found.get(name), item, f"{where}.{name}") for name, item in fields]
                return Several(tuple(items))
        return self._read(value, kind, where, self.read_result, MismatchError)

    def _read(
        self,
        value: Any,
        kind: Type,
        where: str,
        read: Callable[[Any, Type, str], Tree],
        misfit: type[ArgumentError] | type[MismatchError],
    ) -> Tree:
        """Takes apart a value of a type that is the same in arguments and results."""
        match kind:
            case OptionalType(item):
                return NOTHING if value is None else read(value, item, where)
            case ScalarType("None") if value is None:
                return NOTHING
            case ScalarType("bool") if isinstance(value, bool):
                return Constant(value)
            case ScalarType(name) if _fits(value, name):
                return Constant({"float": float, "complex": complex}.get(name, lambda same: same)(value))
            case EnumType() if isinstance(value, self._classes[kind]):
                return Constant(value)
            case ListType(item) if isinstance(value, Sequence) and not isinstance(value, str):
                return Several(tuple(read(part, item, f"{where}[{n}]") for n, part in enumerate(value)))
            case TupleType(items) if isinstance(value, (tuple, list)) and len(value) == len(items):
                return Several(
                    tuple(read(p, item, f"{where}[{n}]") for n, (p, item) in enumerate(zip(value, items, strict=True)))
                )
            case NamedTupleType(fields=fields) if isinstance(value, tuple) and len(value) == len(fields):
                return Several(
                    tuple(read(p, item, f"{where}.{name}") for p, (name, item) in zip(value, fields, strict=True))
                )
            case DictType(key_type) if not _can_be_keys(key_type):
                pass
            case TensorType() | ScalarType() | EnumType() | ListType() | TupleType() | NamedTupleType() | DictType():
                is_long = isinstance(value, int) and not isinstance(value, bool) and str(kind) == "int"
                raise misfit(f"{where}: {shown(value)} is no {kind}{' of 64 bits' * is_long}")
        raise UnsupportedTypeError(
            f"{where}: an exported module cannot have {kind}; possible are Tensor, numbers, str, enums, NamedTuples, "
            "and Optional, List and Tuple of these, and Dict of these by int, float, bool, complex or str; declare one "
            "of them"
        )

    def _leaf(self, value: Any) -> Leaf:
        self.leaves.append(value)
        return Leaf(len(self.leaves) - 1)


def _fits(value: object, name: str) -> bool:
    """Says whether a value can stand for one of a scalar type."""
    if isinstance(value, bool) or not isinstance(value, _CLASSES.get(name, ())):
        return False
    return not isinstance(value, int) or (
        -(2**63) <= value < 2**63 if name == "int" else abs(value) <= sys.float_info.max
    )


def _can_be_keys(kind: Type) -> bool:
    """Says whether an exported module can have a Dict with such keys: its text has them as literals."""
    return isinstance(kind, ScalarType) and kind.name in ("int", "float", "bool", "complex", "str")


def _check_keys(keys: Iterable[Any], kind: Type, where: str, misfit: type[ArgumentError] | type[MismatchError]) -> None:
    for key in keys:
        if type(key) is not SCALAR_CLASSES[str(kind)]:
            raise misfit(f"{where}: the key {shown(key)} is no {kind}")
        if isinstance(key, int) and not -(2**63) <= key < 2**63:
            raise misfit(f"{where}: the key {shown(key)} is no int of 64 bits")
        if key != key:
            raise misfit(f"{where}: a key is nan, which equals no other key")


def put_together(tree: Tree, kind: Type, leaves: Sequence[Any], classes: Classes) -> Any:
    """Puts an argument together, with other leaves."""
    match tree, kind:
        case Leaf(index), _:
            return leaves[index]
        case Constant(value), _:
            return value
        case _, OptionalType(item):
            return put_together(tree, item, leaves, classes)
        case Several(items, keys), DictType(_, item) if keys is not None:
            parts = (put_together(part, item, leaves, classes) for part in items)
            return dict(zip(keys, parts, strict=True))
        case Several(items), ListType(item):
            return [put_together(part, item, leaves, classes) for part in items]
        case Several(items), TupleType(kinds) | NamedTupleType(items=kinds):
            built = [put_together(part, item, leaves, classes) for part, item in zip(items, kinds, strict=True)]
            return classes[kind](*built) if isinstance(kind, NamedTupleType) else tuple(built)
    raise AssertionError((tree, kind))


def _fields_of(value: Any) -> dict[Any, Any] | None:
    """Returns the fields of a mapping, dataclass or NamedTuple by their names. None for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: getattr(value, name) for name in value._fields}
    return None
