"""Calls modules that have no interface: through Python on both sides, with any arguments that can be pickled.

It has the functions that instantiator.py makes for an interface. There is no signature to compile, so these are
written, and not generated.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
import torch.distributed.rpc as rpc
from torch.nn.utils.rnn import PackedSequence

from .. import _torch
from .._torch import PyRRef
from ..caller.messages.exchange import send
from ..caller.messages.waiting import wait
from ..errors import ArgumentError, RemoteError
from ..link.tensors_within import changed
from ..link.whole_values import checked_value
from ..owner.create import referenced


def _remote_forward(
    module_rref: PyRRef[Any] | _Own, device: str, is_device_map_set: bool, /, *args: Any, **kwargs: Any
) -> Any:
    """Runs on the owner. To an accelerator, tensors move in, and out again unless the caller has a device map."""
    # If the module is being created, this waits for the end of its constructor. The caller's timeout holds meanwhile.
    module = module_rref.local_value()
    there = torch.device(device)
    if there.type == "cpu":
        result = module.forward(*args, **kwargs)
    else:
        args, kwargs = _moved((args, kwargs), there)
        result = module.forward(*args, **kwargs)
        if not is_device_map_set:
            result = _moved(result, torch.device("cpu"))
    try:
        return _checked(result, "return")
    except ArgumentError as error:
        raise RemoteError(str(error)) from None


def _run(args: tuple[Any, ...], kwargs: dict[str, Any], needs_grad: bool, *place: Any) -> Any:
    if needs_grad:
        return _remote_forward(*place, *args, **kwargs)
    with torch.no_grad():
        return _detached(_remote_forward(*place, *args, **kwargs))


def _detached(value: Any) -> Any:
    """Returns `value` with every tensor in it that requires a gradient detached, however deep in containers."""
    return changed(value, lambda tensor: tensor.detach() if tensor.requires_grad else tensor)


def forward_async(self: Any, /, *args: Any, **kwargs: Any) -> torch.futures.Future[Any]:
    """Calls the remote module's `forward`. `self` has `module_rref`, `device` and `is_device_map_set`."""
    values = (_checked(args, "args"), _checked(kwargs, "kwargs"), torch.is_grad_enabled())
    return _call_owner(self.module_rref, _run, values, (self.device, self.is_device_map_set))


def _call_owner(
    rref: PyRRef[Any], function: Callable[..., Any], before: tuple[Any, ...], after: tuple[Any, ...]
) -> torch.futures.Future[Any]:
    """Calls `function(*before, rref, *after)` on the owner of `rref`.

    If something after a reference fails to pickle, torch waits for that reference for ever. So what may fail comes
    before it, and `after` has only what cannot.
    """
    own = _Own(rref) if rref.is_owner() else None
    try:
        called: torch.futures.Future[Any] = send(
            rpc.rpc_async, (rref.owner(), function, (*before, own or rref, *after)), {}, catches=()
        )
    except BaseException as error:
        if own is not None:
            own.forget()
        if isinstance(error, RecursionError):
            raise ArgumentError(
                "RemoteModule.forward: a value nests too deeply to be pickled; pass a flatter one"
            ) from None
        raise
    if own is not None:
        _torch.when_done(called, lambda _: own.forget())  # the message may be one that cannot be read
    return called


class _Own:
    """Stands for a reference to a module of this worker, in a message that the worker sends itself.

    Until the module is created, torch does not know the creator's reference. It would forget the one that arrives,
    which would wait for ever. So the message has this object, and `_kept` has the reference.
    """

    _kept: ClassVar[dict[int, PyRRef[Any]]] = {}
    _numbers: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, rref: PyRRef[Any]) -> None:
        self._number = next(self._numbers)
        self._kept[self._number] = rref

    def local_value(self) -> Any:
        return self._kept.pop(self._number).local_value()

    def forget(self) -> None:
        self._kept.pop(self._number, None)


def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Calls the remote module's `forward`, and waits for the result."""
    return wait(forward_async(self, *args, **kwargs))


_generated_methods = [forward_async, forward]


class GeneratedMethod:
    """Is `forward` or `forward_async` of a remote module. A user may assign another function in its place.

    A property, so that an instance need not hold a method that holds it: it would keep the remote module until Python's
    garbage collector runs.
    """

    def __set_name__(self, cls: type, name: str) -> None:
        self._cls, self._name = cls, name

    def __get__(self, module: Any, cls: type) -> Any:
        if module is None:
            return self
        given = module.__dict__.get(self._name)
        if given is not None and given not in _generated_methods:
            return given
        if "generated_methods" not in module.__dict__:  # a stub, whose methods follow
            return getattr(super(self._cls, module), self._name)
        generated = {function.__name__: function for function in _generated_methods}
        return types.MethodType(generated[self._name], module)

    def __set__(self, module: Any, value: Any) -> None:
        module.__dict__[self._name] = value

    def __delete__(self, module: Any) -> None:
        if self._name not in module.__dict__ or module.__dict__[self._name] in _generated_methods:
            raise AttributeError(f"{self._cls.__name__}: no {self._name} was assigned to it")
        del module.__dict__[self._name]


def _moved(value: Any, device: torch.device) -> Any:
    """Moves every tensor in `value`, however deep in containers, to `device`."""
    # A PackedSequence moves itself. It is a NamedTuple, one of whose tensors, `batch_sizes`, has to stay on the CPU.
    return changed(value, lambda leaf: leaf.to(device), leaves=(torch.Tensor, PackedSequence))


def _checked(value: Any, where: str) -> Any:
    """Checks every tensor in a value of a call, and returns the value as it can be sent."""
    if _torch.is_transforming():
        raise ArgumentError("RemoteModule.forward: called under a torch.func transform such as vmap; call it outside")
    return checked_value(value, f"RemoteModule.forward.{where}")


# -- what else a caller asks of the module


class Referenced:
    """Does for a module that an RRef refers to what `AtOwner` does for the module of a stub."""

    def __init__(self, module_rref: PyRRef[Any]) -> None:
        self._module_rref = module_rref

    def parameters(self, recurse: bool) -> list[rpc.RRef[Any]]:
        found: list[rpc.RRef[Any]] = self._ask(_parameters_of, recurse)
        for reference in found:
            _torch.keep_in_forks(reference)
        return found

    def train(self, mode: bool) -> None:
        self._ask(_train, mode)

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        return wait(_call_owner(self._module_rref, function, (), args))


# -- on the owner, for a remote module


def made_on(
    device: str, module_cls: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> torch.nn.Module:
    module = module_cls(*args, **kwargs)
    if not isinstance(module, torch.nn.Module):
        raise ValueError(
            "Expect `module_cls(*args, **kwargs)` returns an instance of <class nn.Module>, but it returns an instance "
            f"of {type(module)}."
        )
    module.to(device)
    return module


def _parameters_of(module_rref: Any, recurse: bool) -> list[PyRRef[Any]]:
    return [rpc.RRef(parameter) for parameter in referenced(module_rref).parameters(recurse)]


def _train(module_rref: Any, mode: bool) -> None:
    referenced(module_rref).train(mode)
