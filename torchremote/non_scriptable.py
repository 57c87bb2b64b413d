"""The form without an interface: whatever arguments can be pickled, through Python on both sides.

It has the functions that jit/instantiator.py makes for an interface. There is no signature to compile, so these are
written, and not generated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.distributed.rpc as rpc
from torch.nn.utils.rnn import PackedSequence

from .errors import ArgumentError, RemoteError
from .failures import FAILURES, UNSENDABLE, message_of, unsightly
from .jit import _torch
from .jit._torch import PyRRef
from .jit.foundation import sendable
from .values import check_plain


def _remote_forward(
    module_rref: PyRRef[Any], device: str, is_device_map_set: bool, /, *args: Any, **kwargs: Any
) -> Any:
    """Runs on the owner. To an accelerator, tensors move in, and out again unless the caller has a device map."""
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


def _run(args: tuple[Any, ...], kwargs: dict[str, Any], *referring: Any) -> Any:
    return _remote_forward(*referring, *args, **kwargs)


def forward_async(self: Any, /, *args: Any, **kwargs: Any) -> torch.futures.Future[Any]:
    """Calls the remote module's `forward`. `self` has `module_rref`, `device` and `is_device_map_set`."""
    rref = self.module_rref
    referring = (rref, self.device, self.is_device_map_set)
    # The RRef comes last: torch never gets over one that was pickled before something that cannot be.
    sent = (_checked(args, "args"), _checked(kwargs, "kwargs"), *referring)
    called: torch.futures.Future[Any] = rpc.rpc_async(rref.owner(), _run, sent)
    return called


def forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """`forward_async`, and waits."""
    return forward_async(self, *args, **kwargs).wait()


_generated_methods = [forward_async, forward]


def _moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it, however deep in containers, on `device`."""

    def move(leaf: Any) -> Any:
        return leaf.to(device) if isinstance(leaf, (torch.Tensor, PackedSequence)) else leaf  # type: ignore[arg-type]

    # It moves itself: a NamedTuple one of whose tensors, `batch_sizes`, has to stay on the CPU.
    return _torch.map_leaves(move, value, is_leaf=lambda part: isinstance(part, PackedSequence))


# What torch sends of a tensor in these layouts are its parts.
_IN_PARTS: Final = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def _checked(value: Any, where: str) -> Any:
    """`value`, to be sent; see jit/tensors.py, Note [Tensors that hurt].

    Raises:
        ArgumentError: a tensor in it would end a process.
    """
    if _torch.is_transforming():
        raise ArgumentError("RemoteModule.forward: called under a torch.func transform such as vmap; call it outside")
    check: Callable[..., torch.Tensor] = sendable()

    def checked(path: Any, leaf: Any) -> Any:
        # A tensor of a class that keeps its values elsewhere is pickled as other Python objects are.
        if not isinstance(leaf, torch.Tensor) or leaf.layout in _IN_PARTS or _torch.class_has_dispatch(type(leaf)):
            return leaf
        place = f"RemoteModule.forward.{where}{_torch.path_text(path)}"
        check_plain(leaf, place)
        try:
            return check(leaf, None, place)
        except FAILURES as error:
            message = message_of(error)
            if message.startswith(UNSENDABLE):
                raise ArgumentError(message.removeprefix(UNSENDABLE)) from None
            raise ArgumentError(f"{place}: {unsightly(message)}") from None

    return _torch.map_leaves_with_path(checked, value)
