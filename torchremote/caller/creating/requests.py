"""Makes requests for modules, and checks what users give for them, before anything is sent."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, get_args

import torch

from ...errors import ArgumentError, MismatchError
from ...jit import CompiledInterface
from ...jit.read.shown import repr_of
from ...link.timeouts import checked_own_id
from ...link.whole_values import check_object, checked_value
from ...owner.create import CreateRequest
from ...owner.running.turns import check_in_turn
from ...owner.served import check_served_name

IfExists = Literal["raise", "connect", "replace"]


class CommonOptions(TypedDict, total=False):
    """The keywords of `create`, `create_async` and `create_many` that are the same for one module and for many."""

    if_exists: IfExists
    timeout: float | None
    in_turn: bool | None
    examples: Mapping[str, Any] | None
    gather: int | None


def new_ticket() -> str:
    """Draws the ticket of a request."""
    return secrets.token_hex(16)


def request_for(
    device: str | None,
    compiled: CompiledInterface,
    make: Callable[..., torch.nn.Module] | torch.jit.ScriptModule,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    places: bool = True,
    name: str | None = None,
    if_exists: IfExists = "raise",
    in_turn: bool | None = None,
    strict: bool = True,
    examples: Mapping[str, Any] | None = None,
    gather: int | None = None,
    checkpoint: str | None = None,
) -> CreateRequest:
    """Makes the request for one module, with a new ticket. The keywords are fields of `CreateRequest`.

    Raises:
        NotInitializedError: another thread ended RPC meanwhile.
        ServedNameError: `name` cannot be a served name.
        ArgumentError: a tensor in the examples would end a process. Or `if_exists` is none of the three, or there is no
            name. Or `in_turn` is none of the three.
    """
    if name is not None:
        check_served_name(name)
    check_in_turn(in_turn)
    if if_exists not in get_args(IfExists):
        raise ArgumentError(
            f"if_exists={repr_of(if_exists)}: one of {', '.join(map(repr, get_args(IfExists)))} is wanted"
        )
    if name is None and if_exists != "raise":
        raise ArgumentError(
            f"if_exists={repr_of(if_exists)}: a module without a name never exists before; give it a name= "
            "(in create_many, names=)"
        )
    return CreateRequest(
        interface=compiled.interface.name,
        text=compiled.interface.text,
        make=make,
        args=args,
        kwargs=kwargs,
        device=device or "cpu",
        places=places,
        name=name,
        in_turn=in_turn,
        if_exists=if_exists,
        strict=strict,
        ticket=new_ticket(),
        caller=checked_own_id(),
        examples=checked_value(examples, "examples"),
        gather=gather,
        declared=None if gather is None else compiled.interface.declaration,
        checkpoint=checkpoint,
    )


def checked_arguments(module_cls: object, args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns `args` and `kwargs` as a tuple and a dict that can be sent, or raises ArgumentError."""
    if not isinstance(args, (tuple, list)):
        raise ArgumentError(f"args={repr_of(args)}: not a tuple; one argument is written args=(value,)")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise ArgumentError(f"kwargs={repr_of(kwargs)}: not a mapping from names to values")
    if isinstance(module_cls, torch.jit.ScriptModule) and (args or kwargs):
        raise ArgumentError("module_cls: a ScriptModule is sent as it is, and takes no args or kwargs")
    if not isinstance(module_cls, (type, torch.jit.ScriptModule)):
        check_object(module_cls, "module_cls")  # it may be a partial, with arguments
    return checked_value(tuple(args), "args"), checked_value(dict(kwargs or {}), "kwargs")


def checked(module_cls: object) -> Callable[..., torch.nn.Module] | torch.jit.ScriptModule:
    """Returns `module_cls`, or raises MismatchError if no module can come of it."""
    if isinstance(module_cls, torch.jit.ScriptModule):
        return module_cls
    if isinstance(module_cls, torch.nn.Module):
        raise MismatchError(
            f"module_cls: an instance of {type(module_cls).__name__}; "
            "pass the class and its args, torch.jit.script(module), or exported(module, interface, examples)"
        )
    if isinstance(module_cls, type) and _makes_itself(module_cls):
        raise MismatchError(
            f"module_cls: {module_cls.__name__} is no torch.nn.Module; the interface comes first, then the module's "
            "class: are the two swapped?"
        )
    if not callable(module_cls):
        raise MismatchError(
            f"module_cls: {repr_of(module_cls)} cannot be called; pass a class or function that returns an nn.Module"
        )
    return module_cls


def _makes_itself(cls: type) -> bool:
    """Says whether calling `cls` can only give an object of `cls`, which is no module."""
    new, call = inspect.getattr_static(cls, "__new__"), inspect.getattr_static(type(cls), "__call__")
    ordinary = new is vars(object)["__new__"] and call is vars(type)["__call__"]
    return not issubclass(cls, torch.nn.Module) and ordinary
