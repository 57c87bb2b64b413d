"""Checks that a scripted module implements an interface."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import torch

from .. import _torch
from ..errors import InterfaceError, MismatchError
from ..jit import Contract
from ..jit.read.annotations import read_type
from ..jit.read.model import Interface, Method


def check_implements(module: torch.jit.ScriptModule, contract: Contract) -> None:
    """Checks that `module` has every method of an interface, with arguments and results that fit.

    Raises:
        MismatchError: it does not. The message compares all methods, and shows both signatures of those that differ.
    """
    name, lines, wrong = contract.interface.name, [], 0
    for method in contract.interface.methods:
        difference = _difference_in(module, contract, method)
        wrong += difference is not None
        lines.append(f"{name}.{method.name}{difference or ': as it should be'}")
    if wrong:
        many = "\n".join(f"  {line}" for line in lines)
        raise MismatchError(
            f"{name}: {module.original_name} does not implement it. The methods, one by one:\n{many}\n"
            "what to do: make the module's signatures the interface's, or the other way round"
        )


def chosen_overloads(module: torch.nn.Module, interface: Interface) -> dict[str, Callable[..., Any]]:
    """Returns, for each method that has overloads, as nn.LSTM's forward has, the one that the interface declares.

    Raises:
        MismatchError: it declares none of them.
    """
    chosen: dict[str, Callable[..., Any]] = {}
    for method in interface.methods:
        overloads = _torch.overloads_of(module, method.name)
        wanted = [(argument.name, str(argument.type)) for argument in method.arguments]
        found = [overload for overload in overloads if _arguments_of(overload) == wanted]
        if found:
            chosen[method.name] = found[0]
        elif overloads:
            shown = "\n    ".join(str(inspect.signature(overload)) for overload in overloads)
            raise MismatchError(
                f"{interface.name}.{method.name}: {type(module).__name__} has overloads of it, and none is\n"
                f"    {method}\n  they are\n    {shown}"
            )
    return chosen


def _arguments_of(overload: Callable[..., Any]) -> list[tuple[str, str]]:
    """Returns the names and types of an overload's arguments; no type for one that cannot cross."""
    arguments = []
    hints = typing.get_type_hints(overload)
    for name in list(inspect.signature(overload).parameters)[1:]:
        try:
            arguments.append((name, str(read_type(name, hints.get(name)))))
        except InterfaceError:
            arguments.append((name, ""))
    return arguments


def _difference_in(module: torch.jit.ScriptModule, contract: Contract, method: Method) -> str | None:
    """Words the difference between a module's method and the interface's. None if it fits."""
    if not _torch.has_method(module, method.name):
        return (
            f": the module has no such scripted method\n    expected: {method}\n    define it; in a module that is "
            "scripted already, under @torch.jit.export"
        )
    found = _torch.schema_of(module, method.name)
    difference = _difference(found, _torch.interface_schema(contract.defined["ModuleInterface"], method.name))
    return difference and f"{difference}\n    expected: {method}\n    the module has: {_shown(found)}"


def _difference(found: _torch.FunctionSchema, wanted: _torch.FunctionSchema) -> str | None:
    """Words the first thing to which TorchScript would object, beginning with the argument's name. None if all fits."""
    mine, theirs = found.arguments[1:], wanted.arguments[1:]  # without self
    for have, want in zip(mine, theirs, strict=False):
        if have.name != want.name:
            return f".{want.name}: the module calls this argument {have.name!r}"
        if not want.type.isSubtypeOf(have.type):
            passed, taken = want.type.annotation_str, have.type.annotation_str
            return f".{want.name}: the interface passes {passed}, the module takes {taken}{_namesakes(passed, taken)}"
    if len(mine) < len(theirs):
        return f".{theirs[len(mine)].name}: the module takes no such argument"
    if len(mine) > len(theirs):
        return (
            f".{mine[len(theirs)].name}: the module takes this argument, too (TorchScript counts those with defaults)"
        )
    returned, promised = found.returns[0].type, wanted.returns[0].type
    if not returned.isSubtypeOf(promised):
        return (
            f".return: the interface promises {promised.annotation_str}, the module returns {returned.annotation_str}"
        )
    return None


def _namesakes(one: str, other: str) -> str:
    """Explains a difference between two types of the same name."""
    if one != other:
        return ""
    return ", an enum of that name that came with an archive; send the class and its args, so that its owner scripts it"


def _shown(schema: _torch.FunctionSchema) -> str:
    """Shows a signature as an interface declares it."""
    arguments = ", ".join(f"{argument.name}: {argument.type.annotation_str}" for argument in schema.arguments[1:])
    return f"{schema.name}({arguments}) -> {schema.returns[0].type.annotation_str}"
