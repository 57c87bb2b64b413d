"""Watches a method while torch.export traces it, for what the graph would lose or would be right for in part only.

torch.export sees operators on tensors. What a method asks of a tensor, or does to torch itself, leaves nothing in the
graph. Some of it is noted, and calls are compared with it. Some is written so that the graph keeps it. The rest is
refused.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ... import _torch
from ...errors import CreationError, TorchRemoteError

GRADIENT: Final = "whether a tensor requires a gradient"
GRAD_MODE: Final = "whether gradients are on"
MEMORY: Final = "how a tensor lies in memory"
OFFSET: Final = "where in its storage a tensor begins"
CONJUGATE: Final = "whether a tensor is conjugated lazily"
NEGATIVE: Final = "whether a tensor is negated lazily"

_TORCH: Final = os.path.dirname(torch.__file__)
_GETTERS: Final = [getattr(torch.Tensor, name).__get__ for name in ("requires_grad", "is_leaf", "grad_fn")]
_QUESTIONS: Final[dict[Any, str]] = {
    **dict.fromkeys(_GETTERS, GRADIENT),
    **dict.fromkeys((torch.Tensor.is_contiguous, torch.Tensor.stride), MEMORY),
    torch.Tensor.storage_offset: OFFSET,
    **dict.fromkeys((torch.Tensor.is_conj, torch.is_conj), CONJUGATE),
    **dict.fromkeys((torch.Tensor.is_neg, torch.is_neg), NEGATIVE),
}
_GETS_GRADIENT: Final = frozenset((getattr(torch.Tensor, "grad").__get__,))  # noqa: B009
_SETS_REQUIRED: Final = frozenset((torch.Tensor.requires_grad_, getattr(torch.Tensor, "requires_grad").__set__))  # noqa: B009
_GETS_DATA: Final = frozenset((getattr(torch.Tensor, "data").__get__,))  # noqa: B009
_SETS_DATA: Final = frozenset((getattr(torch.Tensor, "data").__set__,))  # noqa: B009
_SQUEEZES: Final = frozenset((torch.squeeze, torch.Tensor.squeeze, torch.Tensor.squeeze_))
_HOOKS: Final = frozenset((torch.Tensor.register_hook, torch.Tensor.register_post_accumulate_grad_hook))
_DERIVES: Final = {torch.autograd.grad: "torch.autograd.grad", torch.Tensor.backward: "backward"}
_SEEDS: Final = ("manual_seed", "seed", "set_rng_state")
_WITHOUT: Final = (
    "which an exported module would lose; leave it out of the method, or run that part under torch.no_grad() if its "
    "callers need no gradients"
)


class GradientsLost(TorchRemoteError):
    """With gradients, the graph would lose a backward of the user's own, or a region without gradients."""


class Watching(TorchFunctionMode):
    """Notes what a method asks.

    Args:
        leaves: the tensors of the method's arguments.
        state: the parameters and buffers of the module, by name.
        where: names interface and method in errors.
    """

    def __init__(self, leaves: list[Any], state: Mapping[str, torch.Tensor], where: str) -> None:
        super().__init__()
        self.asked: set[str] = set()
        self.asked_of: set[str] = set()
        """The parameters and buffers of which it asked whether they require a gradient."""
        self.loses_region = False
        """Whether a branch or loop, as torch.cond, ran without gradients, while they were on before. torch.export
        drops such a region."""
        self._began_with_gradients = torch.is_grad_enabled()
        self._is_in_operator = False
        self._leaves = {id(leaf) for leaf in leaves}
        self._state = state  # it keeps them, so that no other tensor gets the id of one
        self._names = {id(tensor): name for name, tensor in state.items()}
        self._where = where

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _QUESTIONS:  # only then: torch 2.11 traces this for branches and loops, and guards the set
            self.asked.add(_QUESTIONS[function])
            if function in _GETTERS and id(args[0]) not in self._leaves:
                self._ask_of_gradient(function, args[0], sys._getframe(1))
        if function in _GETS_DATA:
            return args[0].detach()  # it leaves nothing in the graph, and is the same memory
        if function in _SETS_DATA:
            raise CreationError(
                f"{self._where}: it assigns to a tensor's data, which an exported module would lose; use copy_ under "
                "torch.no_grad()"
            )
        if function in _GETS_GRADIENT and id(args[0]) in self._names and not _is_torchs(sys._getframe(1)):
            raise CreationError(
                f"{self._where}: it looks at the gradient of self.{self._names[id(args[0])]}, which a graph does not "
                "have; leave that out of the method"
            )
        if function in _SETS_REQUIRED and id(args[0]) in self._names:
            wanted = [*args[1:], *(kwargs or {}).values(), True][0]
            if args[0].requires_grad is not wanted:
                raise CreationError(
                    f"{self._where}: it changes whether self.{self._names[id(args[0])]} requires a gradient, which an "
                    "exported module would lose; leave that out of the method, and do it before"
                )
        if function in _SQUEEZES:
            _ask_for_1(*args, **(kwargs or {}))
        if function in _HOOKS and torch.is_grad_enabled():
            raise CreationError(f"{self._where}: it registers a hook for gradients on a tensor, {_WITHOUT}")
        if function in _DERIVES and not self._is_in_operator and not _in_transform():
            raise CreationError(
                f"{self._where}: it calls {_DERIVES[function]}, which a graph does not have; return what is to be "
                "differentiated, and take its gradient where the method is called, or write the derivative in operators"
            )
        result = function(*args, **(kwargs or {}))
        if function is torch.Tensor.contiguous and result is args[0]:
            if len(args) > 1 or kwargs:
                self.asked.add(MEMORY)
            else:  # it leaves nothing in the graph, so graph.py writes this one as contiguous
                return torch.ops.aten.alias.default(result)
        return result

    def _ask_of_users(self, frame: Any) -> None:
        """Notes a question for the grad mode, unless torch's own Python asks. There, it chooses a faster way."""
        if not _is_torchs(frame):
            self.asked.add(GRAD_MODE)

    def _ask_of_gradient(self, function: Any, tensor: torch.Tensor, frame: Any) -> None:
        """Notes a question for the gradient of a tensor that is no argument, unless torch's own Python asks it."""
        if _is_torchs(frame):
            return
        name = self._names.get(id(tensor))
        if name is not None and (function == _GETTERS[0] or not isinstance(tensor, nn.Parameter)):
            self.asked_of.add(name)  # a parameter is always a leaf
        if not isinstance(tensor, nn.Parameter):
            self.asked.add(GRAD_MODE)
            if name is None and self._began_with_gradients:  # it may be computed of any of them
                self.asked_of.update(self._names.values())

    @contextlib.contextmanager
    def patches(self) -> Iterator[None]:
        """Watches what torch tells no mode of, in this thread."""
        here = threading.get_ident()
        function: Any = torch.autograd.Function
        region: Any = torch.inference_mode
        apply, enter, leave = function.__dict__["apply"], region.__enter__, region.__exit__
        operator: Any = _torch.HigherOrderOperator
        is_enabled, dispatch = torch.is_grad_enabled, operator.dispatch

        def dispatched(self_: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != here or self._is_in_operator:
                return dispatch(self_, *args, **kwargs)
            if self._began_with_gradients and not is_enabled():
                self.loses_region = True
            self._is_in_operator = True  # to differentiate it, torch runs it again inside of itself, without gradients
            try:
                return dispatch(self_, *args, **kwargs)
            finally:
                self._is_in_operator = False

        def applied(cls: Any, *args: Any, **kwargs: Any) -> Any:
            is_torchs = cls.__module__.partition(".")[0] == "torch"  # such as that of cond, which is in the graph
            if threading.get_ident() == here and not is_torchs:
                if is_enabled():
                    raise GradientsLost
                self.asked.add(GRAD_MODE)
            return apply.__get__(None, cls)(*args, **kwargs)

        def asked_mode() -> bool:
            if threading.get_ident() == here:
                self._ask_of_users(sys._getframe(1))
            return is_enabled()

        # A graph has regions without gradients, and none of inference.
        def entered(self: Any) -> None:
            if threading.get_ident() != here:
                enter(self)
                return
            self.instead = torch.set_grad_enabled(not self.mode)

        def left(self: Any, *raised: Any) -> None:
            if threading.get_ident() != here:
                leave(self, *raised)
                return
            self.instead.__exit__(*raised)

        patched: list[tuple[Any, str, Any]] = [
            (function, "apply", classmethod(applied)),
            (operator, "dispatch", dispatched),
            (torch, "is_grad_enabled", asked_mode),
            (region, "__enter__", entered),
            (region, "__exit__", left),
        ]
        for module in (torch, torch.random):
            patched += [(module, name, self._refusing(getattr(module, name), name, here)) for name in _SEEDS]
        before = [(owner, name, owner.__dict__[name]) for owner, name, _ in patched]
        for owner, name, value in patched:
            setattr(owner, name, value)
        try:
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)

    def _refusing(self, function: Callable[..., Any], name: str, thread: int) -> Callable[..., Any]:
        """Makes a function that refuses to seed torch's generator in this thread."""

        def refuse(*args: Any, **kwargs: Any) -> Any:
            file = sys._getframe(1).f_code.co_filename
            of_user = not file.startswith(_TORCH) or file.endswith("random.py")  # dynamo puts back what it drew
            if threading.get_ident() == thread and of_user:
                raise CreationError(
                    f"{self._where}: it calls torch.{name}, which an exported module would lose; seed before the call"
                )
            return function(*args, **kwargs)

        return refuse


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the parameters and buffers of a module that may require gradients, by name."""
    found = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor for name, tensor in found if tensor.is_floating_point() or tensor.is_complex()}


def _is_torchs(frame: Any) -> bool:
    """Says whether code of torch's own runs in a frame."""
    return bool(frame.f_code.co_filename.startswith(_TORCH))


def _in_transform() -> bool:
    """Says whether torch.func differentiates, which calls torch.autograd.grad itself."""
    return any(frame.filename.endswith("eager_transforms.py") for frame in traceback.extract_stack())


def _ask_for_1(*args: Any, **kwargs: Any) -> None:
    """Compares the sizes that squeeze looks at with 1, for torch.export to note the answer.

    Args:
        args, kwargs: those of squeeze. torch also takes `axis`, and dimensions one by one, and calls the tensor `input`
            or, as numpy does, by other names.
    """
    by_name = [kwargs.pop(name) for name in ("dim", "axis") if name in kwargs]
    tensor, *given = (*args, *kwargs.values(), *by_name)
    if isinstance(tensor, torch.Tensor):
        several = given if len(given) != 1 else given[0] if isinstance(given[0], (tuple, list)) else given
        for one in several if given else range(tensor.dim()):
            if isinstance(one, int) and -tensor.dim() <= one < tensor.dim():
                _torch.ask_for_1(tensor.shape[one])
