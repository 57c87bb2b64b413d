"""Gives stubs the methods of torch.nn.Module: each reaches the remote module, or raises with what to write instead.

Note [A stub in a model]
    torch asks the parts of a model in its own ways, and then a stub answers as a part that has nothing of its own. So
    `parameters()`, `state_dict()`, `to()`, `apply()` and the like of a model are for its other parts. torch asks a part
    without `recurse`, hands down a `destination`, or calls `_apply` or, from its own `apply`, `apply`. Asked by itself,
    a stub reaches its module or refuses.

    `train` and `eval` of a model reach its stubs, with one message an owner. torch calls `train` of one part after the
    other. At the first stub, the frames of torch's own `train` in the stack lead to the model, and all stubs that this
    call will reach are set. The others find that this was done. A part may have a `train` of its own, as one that stays
    in evaluation. What that part does is its own call.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from traceback import walk_stack
from types import FrameType
from typing import Any, Final, NoReturn

import torch
from torch import nn

from ...errors import StaleStubError, TorchRemoteError
from ...link.route import Route
from ...owner import module_state
from ..calls.following import find_if_lost
from ..messages.asking import ask
from ..messages.waiting import SuppressFailures, unless_of_a_handler
from .at_owner import IncompatibleKeys, at_owner
from .remedies import COPIED, MOVE, PARAMETERS, PARTS, REMEDIES, STATE, WHERE_IT_IS_MADE, asks_for_a_dtype, refuse
from .shared_mode import note_mode
from .state_given import check_is_bool
from .stub import Stub, route_and_interface


def train(self: Stub, mode: bool = True) -> Stub:
    """Sets the training mode of the remote module, which all its callers share. Returns the stub.

    Args:
        mode: True for training, False for evaluation.
    """
    outermost = _outermost(sys._getframe(1), mode)
    if outermost is None:
        at_owner(self).train(mode)
        return self
    left = _setting.left
    if outermost not in left:
        for ended in left.keys() - {frame for frame, _ in walk_stack(outermost)}:  # with an exception
            del left[ended]
        stubs = list(_stubs_to_set(outermost.f_locals["self"]))
        _set_modes(list(dict.fromkeys(stubs)), mode)
        left[outermost] = len(stubs)
    left[outermost] -= 1
    if not left[outermost]:
        del left[outermost]  # a frame keeps its variables alive
    return self


def eval(self: Stub) -> Stub:
    """Sets the remote module to evaluation, as `train(False)` does. Returns the stub."""
    at_owner(self).train(False)
    return self


class _Setting(threading.local):
    """The calls of torch's `train` in which all modes were set, and how often each of them still reaches a stub."""

    def __init__(self) -> None:
        self.left: dict[FrameType, int] = {}


_setting = _Setting()


def _outermost(frame: FrameType | None, mode: bool) -> FrameType | None:
    """Returns the outermost of the calls of torch's own `train` that led here. None if the stub was asked by itself."""
    found = None
    while frame is not None and frame.f_code is nn.Module.train.__code__ and frame.f_locals["mode"] == mode:
        found, frame = frame, frame.f_back
    return found


def _stubs_to_set(module: nn.Module) -> Iterator[Stub]:
    """Yields the stubs that torch's `train` of a module reaches, as often as it does. A part may have its own."""
    for part in module.children():
        if isinstance(part, Stub):
            yield part
        elif type(part).train is nn.Module.train and "train" not in vars(part):
            yield from _stubs_to_set(part)


def _set_modes(stubs: list[Stub], mode: bool) -> None:
    """Sets the modes of the modules of many stubs, with one message an owner.

    If one refuses the mode, or is lost, the others get back the one that they had.
    """
    for stub in stubs:
        find_if_lost(stub)
    before = {stub: stub.training for stub in stubs}
    routes = [(stub, route_and_interface(stub, "train")[0]) for stub in stubs]
    done: list[Stub] = []
    try:
        for worker in dict.fromkeys(route.worker for _, route in routes):
            _set_modes_at(worker, [(stub, route) for stub, route in routes if route.worker == worker], mode, done)
    except TorchRemoteError:
        for stub in done:
            with SuppressFailures(TorchRemoteError):
                at_owner(stub).train(before[stub])
        raise


def _set_modes_at(worker: str, there: list[tuple[Stub, Route]], mode: bool, done: list[Stub]) -> None:
    """Sets the modes of the modules of one owner. `done` gets the stubs of those that have it."""
    handles = [route.handle for _, route in there]
    try:
        limit = there[0][1].timeout
        ask(worker, f"train on {worker}", module_state.train_many_here, handles, mode, timeout=limit)
    except unless_of_a_handler(StaleStubError):  # it does not say which; by itself, each follows its module's name
        try:
            for stub, _ in there:
                at_owner(stub).train(mode)
                done.append(stub)
        except unless_of_a_handler(StaleStubError) as error:
            raise StaleStubError(f"train on {worker}: {error}") from None
    else:
        for stub, route in there:
            note_mode(worker, route.handle, mode)
            done.append(stub)


def requires_grad_(self: Stub, requires_grad: bool = True) -> Stub:
    """Sets whether autograd records operations on the parameters of the remote module. Returns the stub."""
    at_owner(self).requires_grad_(requires_grad)
    return self


def zero_grad(self: Stub, set_to_none: bool = True) -> None:
    """Sets the `.grad` of the remote module's parameters to None."""
    check_is_bool("zero_grad", "set_to_none", set_to_none)
    if not set_to_none:
        _refuse(self, "zero_grad(set_to_none=False)", "torchremote.at_owner(stub).zero_grad() sets them to None")
    at_owner(self).zero_grad()


def state_dict(
    self: Stub, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
) -> dict[str, torch.Tensor]:
    """Copies the state of the remote module, as `at_owner(stub).state_dict()` does.

    Args:
        prefix: is put before each name, and before those of the parts whose versions are noted.
        destination: as a model gives it to its parts. The stub adds nothing: the state is the remote module's.
    """
    if args or destination is not None:
        handed_down: dict[str, torch.Tensor] = args[0] if args else destination
        return handed_down
    return at_owner(self).state_dict(prefix=prefix, keep_vars=keep_vars)


def load_state_dict(
    self: Stub, state_dict: Mapping[str, torch.Tensor], strict: bool = True, assign: bool = False
) -> IncompatibleKeys:
    """Copies a state into the remote module, as `at_owner(stub).load_state_dict(state)` does."""
    if assign:
        _refuse(self, "load_state_dict(assign=True)", COPIED)
    return at_owner(self).load_state_dict(state_dict, strict)


def named_parameters(
    self: Stub, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
) -> Iterator[tuple[str, nn.Parameter]]:
    """Refuses: the parameters are at the owner. Without `recurse`, as torch asks each part of a model: none."""
    if recurse:
        _refuse(self, "named_parameters", PARAMETERS)
    return iter(())


def parameters(self: Stub, recurse: bool = True) -> Iterator[nn.Parameter]:
    """Refuses: the parameters are at the owner. Without `recurse`, as torch asks each part of a model: none."""
    if recurse:
        _refuse(self, "parameters", PARAMETERS)
    return iter(())


def named_buffers(
    self: Stub, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
) -> Iterator[tuple[str, torch.Tensor]]:
    """Refuses: the buffers are at the owner. Without `recurse`, as torch asks each part of a model: none."""
    if recurse:
        _refuse(self, "named_buffers", STATE)
    return iter(())


def buffers(self: Stub, recurse: bool = True) -> Iterator[torch.Tensor]:
    """Refuses: the buffers are at the owner. Without `recurse`, as torch asks each part of a model: none."""
    if recurse:
        _refuse(self, "buffers", STATE)
    return iter(())


def apply(self: Stub, fn: Any) -> Stub:
    """Refuses: the parts of the remote module are at the owner. For a model that applies `fn`: does nothing."""
    if sys._getframe(1).f_code is not nn.Module.apply.__code__:
        _refuse(self, "apply", WHERE_IT_IS_MADE)
    return self


def _apply(self: Stub, fn: Any, recurse: bool = True) -> Stub:
    """Does nothing: a model moves or converts its parts, and a stub has no tensors."""
    return self


def _refuse(stub: Stub, method: str, remedy: str) -> NoReturn:
    stub._torchremote_refuse(method, remedy)


def to(self: Stub, *args: Any, **kwargs: Any) -> NoReturn:
    """Refuses: `torchremote.at_owner(stub).to` moves the remote module, and its dtype is given on the owner."""
    _refuse(self, "to", WHERE_IT_IS_MADE if asks_for_a_dtype((*args, *kwargs.values())) else MOVE)


def refusing(name: str, remedy: str) -> Callable[..., NoReturn]:
    """Makes a method that refuses."""

    def refused(self: Stub, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self, name, remedy)

    refused.__name__ = name
    refused.__qualname__ = f"Stub.{name}"
    refused.__doc__ = f"Refuses: {remedy}."
    return refused


_METHODS: Final[tuple[Callable[..., Any], ...]] = (
    *(train, eval, requires_grad_, zero_grad, state_dict, load_state_dict),
    *(parameters, named_parameters, buffers, named_buffers, apply, _apply),
)
_AS_CONTAINER: Final = dict.fromkeys(("__iter__", "__len__", "__getitem__", "__contains__"), PARTS)
"""Refuses what a ScriptModule has as a container. Python itself refuses that of replicas, which are none."""
# With a global hook of backward, torch's `__call__` asks each module for its own. A ScriptModule refuses that.
for _name in ("_get_backward_hooks", "_get_backward_pre_hooks", "_maybe_warn_non_full_backward_hook"):
    setattr(Stub, _name, getattr(nn.Module, _name))
# `Stub` gets them here, because they need `at_owner`, which needs `Stub`.
Stub._torchremote_refuse = refuse  # type: ignore[assignment]
for _method in (*(refusing(name, remedy) for name, remedy in {**REMEDIES, **_AS_CONTAINER}.items()), to, *_METHODS):
    setattr(Stub, _method.__name__, _method)
