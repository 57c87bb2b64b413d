"""A Python class -> the model. Reads signatures, never source: bodies and docstrings may be anything."""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
import keyword
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, Protocol

import torch
import typing_extensions

from ... import _torch
from ...errors import InterfaceError, UnsupportedTypeError
from .annotations import TOO_DEEP, read_type
from .defaults import read_default
from .literals import CONSTANTS, Value
from .marks import check_batched, marks_of
from .model import REQUIRED, RESERVED_PREFIX, Argument, Interface, Method, Required
from .refusals import POSSIBLE, why
from .shown import repr_of
from .types import Type, named_types

# Bases that make a class an interface of some kind, and whose methods are nobody's to call.
_BASES = frozenset({object, Generic, Protocol, typing_extensions.Protocol, abc.ABC, torch.nn.Module})

# Has what every stub has: a ScriptModule's methods, and the attributes that an instance gets.
_A_STUBS_BASE = torch.jit.ScriptModule()


# Stands under the name of a method that has only overloads.
_OVERLOADED: Final = typing.overload(lambda: None)

# The endings of the methods that a stub has for each method of its interface.
GENERATED = ("_async", "_many", "_many_async", "_remote")


@dataclasses.dataclass(frozen=True)
class LocalNames:
    """The local names of a function or class body in which a class is decorated."""

    names: Mapping[str, object]
    module: Mapping[str, object]  # the globals around it
    body: str  # the qualified name of what has them


_NO_NAMES: Final = LocalNames({}, {}, "")


def read_interface(cls: type, local_names: LocalNames | None = None) -> Interface:
    """Reads a class into the model: its methods and those of its bases, with types and defaults.

    Args:
        cls: a plain class, a Protocol, or a class under `torch.jit.interface`.
        local_names: what annotations written as strings may also refer to, beside the globals of their module. They
            count for methods that were written in the same module.

    Raises:
        InterfaceError: a signature that cannot cross; names interface, method and argument.
    """
    members = dict(_functions(checked_class(cls)))
    functions = {name: function for name, (_, function) in members.items()}
    if not functions:
        raise InterfaceError(
            f"{cls.__name__}: no methods; declare at least one, such as `def forward(self, x: Tensor) -> Tensor: ...`"
        )
    _check_names(cls.__name__, functions)
    methods = tuple(_Reader(cls, *members[name], local_names or _NO_NAMES).method(name) for name in sorted(members))
    try:
        return Interface(_readable(_torch.qualified_name(cls)), methods)
    except (ValueError, RuntimeError) as error:
        raise InterfaceError(f"{cls.__name__}: {error}") from None


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


def _functions(cls: type) -> Iterator[tuple[str, tuple[type, types.FunctionType]]]:
    """Yields the methods of an interface by name, each with the class that has it."""
    members: dict[str, tuple[type, object]] = {}
    for base in reversed(cls.__mro__):
        if base not in _BASES:
            members.update((name, (base, member)) for name, member in vars(base).items())
    for name, (base, member) in members.items():
        where = f"{cls.__name__}.{name}"
        if name.startswith("__") and name.endswith("__"):
            # Python's own machinery, which Protocol and others also fill in, is nobody's method.
            if name in vars(object) or name in _OF_DATACLASSES or not isinstance(member, types.FunctionType):
                continue
            remedy = "declare `forward`" if name == "__call__" else "declare a method with an ordinary name"
            raise InterfaceError(f"{where}: special methods cannot be called remotely; {remedy}")
        if isinstance(member, property):
            raise InterfaceError(f"{where}: a property cannot be called remotely; declare a method")
        if isinstance(member, (staticmethod, classmethod)):
            kind = type(member).__name__
            raise InterfaceError(f"{where}: a {kind} has no module to run on; declare an ordinary method with `self`")
        if isinstance(member, types.FunctionType):
            yield name, (base, member)
        elif _is_called(member):
            kind = type(member).__name__
            raise InterfaceError(f"{where}: a {kind} is no plain function and has no signature; declare a method")


_OF_DATACLASSES: Final = ("__post_init__", "__replace__", "__setstate__", "__attrs_post_init__")
"""The special methods of dataclasses, and of those of attrs, written or generated, that object does not have."""
_DATA: Final = (type, types.MemberDescriptorType, types.GetSetDescriptorType)


def _is_called(member: object) -> bool:
    """Says whether a member of a class would do as a method or property: a cached function, or a partial one."""
    binds = hasattr(type(member), "__get__") and not isinstance(member, _DATA)
    return binds or isinstance(member, functools.partial)


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
        for suffix in GENERATED:
            if name.endswith(suffix) and name.removesuffix(suffix) in functions:
                raise InterfaceError(
                    f"{where}: clashes with the {name} that stubs get for {name.removesuffix(suffix)}; rename one"
                )


class _Reader:
    """Reads one method.

    Args:
        cls: the interface.
        base: the class in which the method stands: `cls`, or a base of it.
    """

    def __init__(self, cls: type, base: type, function: types.FunctionType, local_names: LocalNames) -> None:
        self._cls = cls
        self._function = function
        # Annotations that are text mean what they mean where the method was written, also if it is wrapped.
        written: Any = inspect.unwrap(function)
        self._module: dict[str, Any] = getattr(written, "__globals__", function.__globals__)
        self._names = _type_variables(base) | names_in_body(base) | _type_variables(written)
        named = self._module.get(cls.__name__)
        if base is cls and (named is None or getattr(named, "__qualname__", "") == cls.__qualname__):
            self._names.setdefault(cls.__name__, cls)  # while it is decorated, its module lacks it, or has a former one
        if self._module is local_names.module:
            around = written.__qualname__.rpartition(".<locals>.")[0]
            inside = around != "" and around == local_names.body
            self._names |= {
                name: member
                for name, member in local_names.names.items()
                if name not in self._names and (inside or name not in self._module)
            }

    def method(self, name: str) -> Method:
        function = self._function
        where = f"{self._cls.__name__}.{name}"
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise InterfaceError(
                f"{where}: TorchScript has no async methods; declare it plain, stubs have {name}_async"
            )
        if function is _OVERLOADED:
            raise InterfaceError(
                f"{where}: TorchScript has no overloads; declare one method with a Union, or a method for each"
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
        arguments = tuple(self._argument(where, parameter) for parameter in parameters[1:])
        returns = signature.return_annotation
        if returns is inspect.Signature.empty:
            raise InterfaceError(f"{where}: the return type is missing; write `-> Tensor`, or `-> None` for no result")
        try:
            result = self._type(f"{where}.return", returns)
            method = dataclasses.replace(Method(name, arguments, result), **marks_of(function))
        except ValueError as error:
            raise InterfaceError(f"{where}: {error}") from None
        check_batched(where, method)
        return method

    def _argument(self, where: str, parameter: inspect.Parameter) -> Argument:
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
        type = self._type(where, parameter.annotation)
        default: Value | Required = REQUIRED
        if parameter.default is not inspect.Parameter.empty:
            default = read_default(where, parameter.default, type)
        try:
            return Argument(parameter.name, type, default, parameter.kind is parameter.KEYWORD_ONLY)
        except ValueError as error:
            raise InterfaceError(f"{where}: {error}; rename the argument") from None

    def _type(self, where: str, annotation: object) -> Type:
        # get_type_hints resolves strings at any depth; one annotation at a time, so that an error can name it.
        holder = types.FunctionType((lambda: None).__code__, {})
        holder.__annotations__ = {"it": annotation}
        try:
            resolved = typing.get_type_hints(holder, self._module, self._names)["it"]
        except RecursionError:
            raise UnsupportedTypeError(f"{where}: {TOO_DEEP}") from None
        except Exception as error:  # an annotation is any expression, and evaluating it may raise anything
            written = f"{where}: cannot evaluate the annotation {repr_of(annotation)}"
            raise InterfaceError(f"{written}: {why(error)}") from error
        found = read_type(where, resolved)
        for named in named_types([found]):
            if not CONSTANTS.isdisjoint(named.name.split(".")):
                raise InterfaceError(f"{where}: TorchScript takes a part of {named.name} for a constant; rename it")
        return found


def names_in_body(cls: type) -> dict[str, Any]:
    """Returns what annotations in a class may refer to by the names of its body: a method may have that of a type."""
    return {name: member for name, member in vars(cls).items() if not hasattr(type(member), "__get__")}


def _type_variables(generic: Any) -> dict[str, Any]:
    """Returns the type variables of a class or function by name. From Python 3.12 on, they may stand in brackets."""
    return {variable.__name__: variable for variable in getattr(generic, "__type_params__", ())}


def caller_locals(depth: int) -> LocalNames | None:
    """Returns the local names `depth` frames up, where a decorated class stands: its annotations may refer to them.

    A module has none: its names are the globals of what is written in it, and not of a base from elsewhere.
    """
    frame = sys._getframe(depth + 1)
    if frame.f_locals is frame.f_globals:
        return None
    return LocalNames(dict(frame.f_locals), frame.f_globals, frame.f_code.co_qualname)
