"""Finds the Python classes of an interface's enums and NamedTuples on any worker, or makes twins of them.

A class is imported by its path, as pickle does it. If it cannot be imported, a twin is made from the canonical text. A
twin is enough for a worker that only calls. It is always enough for NamedTuples: TorchScript compares their fields.
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
from ..read.annotations import SCALAR_CLASSES, read_enum, read_named_tuple
from ..read.model import Interface
from ..read.paths import find_class
from ..read.refusals import CannotCross
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
    """Finds or makes the classes of `interface`, and registers them with TorchScript.

    Args:
        scope: the dotted name under which TorchScript gets twins.

    Raises:
        InterfaceError: a class is not defined here as it was where the interface was read, or TorchScript cannot read
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
        except Exception as error:  # TorchScript may raise anything for a user's class
            raise InterfaceError(f"{interface.name}: TorchScript cannot read {named.name}: {error}") from error
        classes[named] = found
    return classes


def known_classes(interface: Interface, scope: str) -> list[type[Any] | None]:
    """Lists the classes that `find_classes` would find, with None for what is no class, or a twin not made yet."""
    found = (find_class(named.name) or _twins.get((scope, named)) for named in interface.named_types)
    return [cls if isinstance(cls, type) else None for cls in found]


def import_classes(interface: Interface) -> None:
    """Imports the modules of those classes of `interface` that are not there yet, if the modules exist here.

    It must not be called under COMPILING. A thread that imports a module holds the module's lock, and may be waiting
    for COMPILING to compile an interface of that module.

    Raises:
        InterfaceError: a module raised something else than an ImportError while it was imported.
    """
    for named in interface.named_types:
        if find_class(named.name) is not None:
            continue
        try:
            find_class(named.name, _import)
        except (Exception, SystemExit) as error:  # a module runs anything while it is imported, or asked for a name
            raise InterfaceError(
                f"{interface.name}: {named.name} is not imported yet, and importing its module raised "
                f"{type(error).__name__}: {error}; see to it that `import {named.name.rpartition('.')[0]}` works"
            ) from error


def _register(cls: type[Any], named: NamedType, classes: Classes) -> None:
    """Registers a class with TorchScript."""
    try:
        _torch.register_class(cls)
    except Exception:  # torch may raise anything
        if not isinstance(named, NamedTupleType):
            raise
        # torch cannot read some annotations, such as text or abstract containers. Give it ones that it can read.
        cls.__annotations__ = {field: annotation_of(type, classes) for field, type in named.fields}
        _torch.register_class(cls)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _check_same(interface: Interface, named: NamedType, found: object) -> None:
    """Raises InterfaceError if the class that was found is not defined as `named` says."""
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
    """Makes a class with the definition that the canonical text gives."""
    name = named.name.rpartition(".")[2]
    if isinstance(named, EnumType):
        twin: type[Any] = _enum(name, named.members)
    else:
        twin = _named_tuple(name, [(field, annotation_of(type, classes)) for field, type in named.fields])
    _torch.set_qualified_name(twin, f"{scope}.{name}")
    _twins[scope, named] = twin
    return twin


_enum: Any = enum.Enum  # Any, because mypy wants literal arguments
_named_tuple: Any = typing.NamedTuple


def annotation_of(kind: Type, classes: Classes) -> Any:
    """Returns the annotation that torch reads as `kind`."""
    match kind:
        case TensorType():
            return torch.Tensor
        case AnyType():
            return Any
        case ScalarType(name):
            return SCALAR_CLASSES[name]
        case EnumType() | NamedTupleType():
            return classes[kind]
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
    raise AssertionError(kind)
