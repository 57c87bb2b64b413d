"""A Python class -> the model. Reads signatures, never source: bodies and docstrings may be anything."""

from __future__ import annotations

import abc
import builtins
import enum
import inspect
import keyword
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, Protocol

import torch
import typing_extensions

from ... import _torch
from ...errors import InterfaceError
from .annotations import POSSIBLE, SCALAR_CLASSES, CannotCross, path_of, read_type
from .literals import CONSTANTS, DeviceValue, DtypeValue, MemberValue, NamedTupleValue, Value
from .marks import check_batched, marks_of
from .model import REQUIRED, RESERVED_PREFIX, Argument, Interface, Method, Required
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
    named_types,
)

# Bases that make a class an interface of some kind, and whose methods are nobody's to call.
_BASES = frozenset({object, Generic, Protocol, typing_extensions.Protocol, abc.ABC, torch.nn.Module})

# Has what every stub has: a ScriptModule's methods, and the attributes that an instance gets.
_A_STUBS_BASE = torch.jit.ScriptModule()


# The endings of the methods that a stub has for each method of its interface.
_GENERATED = ("_async", "_many", "_many_async", "_remote")


def read_interface(cls: type, local_names: Mapping[str, object] | None = None) -> Interface:
    """Reads a class into the model: its methods and those of its bases, with types and defaults.

    Args:
        cls: a plain class, a Protocol, or a class under `torch.jit.interface`.
        local_names: what annotations written as strings may also refer to, beside the globals of their module.

    Raises:
        InterfaceError: a signature that cannot cross; names interface, method and argument.
    """
    functions = dict(_functions(checked_class(cls)))
    if not functions:
        raise InterfaceError(
            f"{cls.__name__}: no methods; declare at least one, such as `def forward(self, x: Tensor) -> Tensor: ...`"
        )
    _check_names(cls.__name__, functions)
    reader = _Reader(cls, local_names or {})
    methods = tuple(reader.method(name, functions[name]) for name in sorted(functions))
    try:
        return Interface(_readable(_torch.qualified_name(cls)), methods)
    except (ValueError, RuntimeError) as error:
        raise InterfaceError(f"{cls.__name__}: {error}") from error


def checked_class(interface: object) -> type:
    """Returns `interface`, or raises InterfaceError if it is no class."""
    if isinstance(interface, type):
        return interface
    is_module = isinstance(interface, torch.nn.Module)
    shown = f"an instance of {type(interface).__name__}" if is_module else repr(interface).partition("\n")[0]
    swapped = ": are it and the module swapped?" if is_module else ""
    raise InterfaceError(
        f"an interface is a class with annotated methods, not {shown}; pass the class itself, which create, "
        f"connect and serve take as their second argument{swapped}"
    )


def _readable(qualified_name: str) -> str:
    """Returns a name that TorchScript can read in an archive: a module's may have any characters."""
    *modules, name = qualified_name.split(".")
    for index, module in enumerate(modules):
        if not (module.isidentifier() and module.isascii()) or keyword.iskeyword(module) or module in CONSTANTS:
            modules[index] = f"_{re.sub('[^0-9A-Za-z]', '_', module)}"
    return ".".join([*modules, name])


def _functions(cls: type) -> Iterator[tuple[str, types.FunctionType]]:
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if base not in _BASES:
            members.update(vars(base))
    for name, member in members.items():
        where = f"{cls.__name__}.{name}"
        if name.startswith("__") and name.endswith("__"):
            # Python's own machinery, which Protocol and others also fill in, is nobody's method.
            if name in vars(object) or not isinstance(member, types.FunctionType):
                continue
            remedy = "declare `forward`" if name == "__call__" else "declare a method with an ordinary name"
            raise InterfaceError(f"{where}: special methods cannot be called remotely; {remedy}")
        if isinstance(member, property):
            raise InterfaceError(f"{where}: a property cannot be called remotely; declare a method")
        if isinstance(member, (staticmethod, classmethod)):
            kind = type(member).__name__
            raise InterfaceError(f"{where}: a {kind} has no module to run on; declare an ordinary method with `self`")
        if isinstance(member, types.FunctionType):
            yield name, member


def _check_names(interface: str, functions: Mapping[str, object]) -> None:
    for name in functions:
        where = f"{interface}.{name}"
        if name.startswith(RESERVED_PREFIX):
            raise InterfaceError(
                f"{where}: names that begin with {RESERVED_PREFIX} are a stub's own; rename the method"
            )
        if name in CONSTANTS or name == "_":
            raise InterfaceError(f"{where}: TorchScript cannot have a method of this name; rename it")
        # First without being run: some are properties that raise.
        own = inspect.getattr_static(_A_STUBS_BASE, name, None) is not None or hasattr(_A_STUBS_BASE, name)
        if name != "forward" and own:
            raise InterfaceError(f"{where}: a stub is a ScriptModule, whose own {name} this would replace; rename it")
        for suffix in _GENERATED:
            if name.endswith(suffix) and name.removesuffix(suffix) in functions:
                raise InterfaceError(
                    f"{where}: clashes with the {name} that stubs get for {name.removesuffix(suffix)}; rename one"
                )


class _Reader:
    def __init__(self, cls: type, local_names: Mapping[str, object]) -> None:
        self._cls = cls
        self._local_names = local_names

    def method(self, name: str, function: types.FunctionType) -> Method:
        where = f"{self._cls.__name__}.{name}"
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise InterfaceError(
                f"{where}: TorchScript has no async methods; declare it plain, stubs have {name}_async"
            )
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if not parameters or parameters[0].kind not in (
            parameters[0].POSITIONAL_ONLY,
            parameters[0].POSITIONAL_OR_KEYWORD,
        ):
            raise InterfaceError(f"{where}: the first parameter is the module itself; declare `def {name}(self, ...)`")
        if parameters[0].name != "self" and parameters[0].annotation is not inspect.Parameter.empty:
            raise InterfaceError(
                f"{where}: the first parameter is the module itself, and this is {parameters[0]}; "
                f"declare `def {name}(self, {parameters[0].name}, ...)`, or call the first one self"
            )
        arguments = tuple(self._argument(where, function, parameter) for parameter in parameters[1:])
        returns = signature.return_annotation
        if returns is inspect.Signature.empty:
            raise InterfaceError(f"{where}: the return type is missing; write `-> Tensor`, or `-> None` for no result")
        try:
            result = self._type(f"{where}.return", function, returns)
            method = replace(Method(name, arguments, result), **marks_of(function))
        except ValueError as error:
            raise InterfaceError(f"{where}: {error}") from error
        check_batched(where, method)
        return method

    def _argument(self, where: str, function: types.FunctionType, parameter: inspect.Parameter) -> Argument:
        where = f"{where}.{parameter.name}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InterfaceError(
                f"{where}: TorchScript has no *args and no **kwargs; name the arguments, or pass a List or Dict"
            )
        if parameter.name.startswith("__"):
            raise InterfaceError(f"{where}: Python mangles names that begin with two underscores; rename the argument")
        if parameter.name in CONSTANTS:
            raise InterfaceError(f"{where}: TorchScript takes this name for a constant; rename the argument")
        if parameter.annotation is inspect.Parameter.empty:
            raise InterfaceError(f"{where}: the type is missing; possible are {POSSIBLE}")
        type = self._type(where, function, parameter.annotation)
        default: Value | Required = REQUIRED
        if parameter.default is not inspect.Parameter.empty:
            default = _default(where, parameter.default, type)
        try:
            return Argument(parameter.name, type, default, parameter.kind is parameter.KEYWORD_ONLY)
        except ValueError as error:
            raise InterfaceError(f"{where}: {error}; rename the argument") from error

    def _type(self, where: str, function: types.FunctionType, annotation: object) -> Type:
        # get_type_hints resolves strings at any depth; one annotation at a time, so that an error can name it.
        holder = types.FunctionType((lambda: None).__code__, {})
        holder.__annotations__ = {"it": annotation}
        nested = {name: member for name, member in vars(self._cls).items() if isinstance(member, type)}
        try:
            resolved = typing.get_type_hints(holder, function.__globals__, {**self._local_names, **nested})["it"]
        except Exception as error:  # an annotation is any expression, and evaluating it may raise anything
            raise InterfaceError(f"{where}: cannot evaluate the annotation {annotation!r}: {error}") from error
        found = read_type(where, resolved)
        for named in named_types([found]):
            if not CONSTANTS.isdisjoint(named.name.split(".")):
                raise InterfaceError(f"{where}: TorchScript takes a part of {named.name} for a constant; rename it")
        return found


def _default(where: str, value: Any, kind: Type) -> Value:
    """Converts a default to a value of exactly `kind`. A caller who leaves the argument out has passed it."""
    match kind:
        case OptionalType(item):
            return None if value is None else _default(where, value, item)
        case UnionType(items):
            for item in sorted(items, key=lambda item: not _is_exactly(value, item)):
                with suppress(InterfaceError):
                    return _default(where, value, item)
        case AnyType():
            for name in SCALARS:
                if _is_exactly(value, ScalarType(name)):
                    return _default(where, value, ScalarType(name))
            raise InterfaceError(f"{where}: a default of type Any is a scalar or None, not {value!r}; declare its type")
        case ScalarType("None") if value is None:
            return None
        case ScalarType("bool") if isinstance(value, bool):
            return value
        case ScalarType("int") if isinstance(value, int) and not isinstance(value, bool):
            if -(2**63) <= value < 2**63:
                return int(value)
        case ScalarType("float") if isinstance(value, (int, float)) and not isinstance(value, bool):
            with suppress(OverflowError):
                return float(value)
        case ScalarType("complex") if isinstance(value, (int, float, complex)) and not isinstance(value, bool):
            with suppress(OverflowError):
                return complex(value)
        case ScalarType("str") if isinstance(value, str):
            if not any("\ud800" <= character <= "\udfff" for character in value):
                return str(value)
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
            pairs = zip(value, kind.items, strict=True)
            return NamedTupleValue(name, tuple(_default(where, element, item) for element, item in pairs))
        case ListType() | DictType():
            raise InterfaceError(
                f"{where}: TorchScript has no default that can change; declare Optional[{kind}] = None"
            )
        case TupleType(items) if isinstance(value, tuple) and len(value) == len(items):
            return tuple(_default(where, element, item) for element, item in zip(value, items, strict=True))
        case TensorType():
            raise InterfaceError(f"{where}: a Tensor has no literal; declare Optional[Tensor] = None")
    raise InterfaceError(f"{where}: the default {value!r} is no {kind}; change one of them")


def _is_of_class(value: object, path: str) -> bool:
    with suppress(CannotCross):  # a class that no worker can import is not the declared one
        return path_of(builtins.type(value)) == path
    return False


def _is_exactly(value: object, kind: Type) -> bool:
    return isinstance(kind, ScalarType) and SCALAR_CLASSES[kind.name] is type(value)


def caller_locals(depth: int) -> dict[str, object]:
    """Returns the local names `depth` frames up, where a decorated class stands: its annotations may refer to them."""
    frame = sys._getframe(depth + 1)
    return dict(frame.f_locals)
