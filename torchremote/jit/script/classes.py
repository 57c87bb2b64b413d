"""The Python classes behind an interface's enums and NamedTuples, on whichever worker they are needed.

A class is found where its path says, as pickle finds one. Where it cannot be imported, a twin is made from the
canonical text: it will do for a worker that only calls, and for NamedTuples, of which TorchScript compares the fields.
"""

from __future__ import annotations

import enum
import importlib
import typing
from typing import Any, Optional, Union

import torch
from torch.distributed.rpc import RRef

from ... import _torch
from ...errors import InterfaceError
from ..read.annotations import SCALAR_CLASSES, CannotCross, find_class, read_enum, read_named_tuple
from ..read.model import Interface
from ..read.types import (
    AnyType,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    NamedType,
    OptionalType,
    RRefType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
    UnionType,
)

Classes = dict[NamedType, type[Any]]


def find_classes(interface: Interface, scope: str) -> Classes:
    """The classes of `interface`, as TorchScript knows them, too. `scope`: where twins belong.

    Raises:
        InterfaceError: a class is defined otherwise here than where the interface was read, or TorchScript cannot read
            it.
    """
    classes: Classes = {}
    for named in interface.named_types:
        found = find_class(named.name)
        if found is None:
            found = _twins.get((scope, named)) or _make_twin(named, classes, scope)
        else:
            _check_same(interface, named, found)
        try:
            _register(found, named, classes)
        except Exception as error:  # whatever TorchScript raises for a user's class
            raise InterfaceError(f"{interface.name}: TorchScript cannot read {named.name}: {error}") from error
        classes[named] = found
    return classes


def import_classes(interface: Interface) -> None:
    """Imports what the classes of `interface` are in, as far as there is such. Not under COMPILING: whoever imports a
    module holds its lock, and may be waiting to compile an interface that is in it."""
    for named in interface.named_types:
        find_class(named.name, _import)


def _register(cls: type[Any], named: NamedType, classes: Classes) -> None:
    try:
        _torch.register_class(cls)
    except Exception:  # torch raises what it will
        if not isinstance(named, NamedTupleType):
            raise
        # Strings, abstract containers and the like: from now on, the fields say what they mean in torch's own words.
        cls.__annotations__ = {field: annotation_of(type, classes) for field, type in named.fields}
        _torch.register_class(cls)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _check_same(interface: Interface, named: NamedType, found: object) -> None:
    definition = f"a {type(found).__name__}"
    try:
        if isinstance(found, type) and issubclass(found, enum.Enum):
            definition = read_enum(found).definition
        elif isinstance(found, type) and issubclass(found, tuple):
            definition = read_named_tuple(found).definition
    except CannotCross as error:
        definition = str(error)
    if definition != named.definition:
        raise InterfaceError(
            f"{interface.name}: {named.name} is not the same on both workers\n  there: {named.definition}\n"
            f"  here:  {definition}\nwhat to do: run the same version of its module on both"
        )


_twins: dict[tuple[str, NamedType], type[Any]] = {}


def _make_twin(named: NamedType, classes: Classes, scope: str) -> type[Any]:
    name = named.name.rpartition(".")[2]
    if isinstance(named, EnumType):
        twin: type[Any] = _enum(name, named.members)
    else:
        twin = _named_tuple(name, [(field, annotation_of(type, classes)) for field, type in named.fields])
    _torch.set_qualified_name(twin, f"{scope}.{name}")
    _twins[scope, named] = twin
    return twin


_enum: Any = enum.Enum  # called with what mypy has to see written
_named_tuple: Any = typing.NamedTuple


def annotation_of(type: Type, classes: Classes) -> Any:
    """The annotation that means `type`, as torch reads it."""
    match type:
        case TensorType():
            return torch.Tensor
        case AnyType():
            return Any
        case ScalarType(name):
            return SCALAR_CLASSES[name]
        case EnumType() | NamedTupleType():
            return classes[type]
        case OptionalType(item):
            return Optional[annotation_of(item, classes)]
        case ListType(item):
            return list[annotation_of(item, classes)]  # type: ignore[misc]
        case RRefType(item):
            return RRef[annotation_of(item, classes)]  # type: ignore[misc]
        case DictType(key, value):
            return dict[annotation_of(key, classes), annotation_of(value, classes)]  # type: ignore[misc]
        case UnionType(items):
            return Union[tuple(annotation_of(item, classes) for item in items)]
        case TupleType(items):
            return typing.Tuple[tuple(annotation_of(item, classes) for item in items)]
    raise AssertionError(type)
