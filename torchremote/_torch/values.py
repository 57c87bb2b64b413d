"""Looks into values of any kind, and at tensors that are not plain ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils._pytree
from torch.autograd import forward_ad

_C: Any = torch._C  # its type stubs lack many names


map_leaves: Callable[..., Any] = torch.utils._pytree.tree_map
"""`map_leaves(function, value)` maps the leaves of nested containers, registered ones too."""


# A context manager. Inside it, a call treats tensors of subclasses as plain ones and does not call __torch_function__.
as_plain_tensors = _C.DisableTorchFunctionSubclass


def _recurse(frames: int) -> None:
    """Raises RecursionError if the limit leaves fewer frames: where C++ finds a value's type, torch crashes then."""
    if frames > 0:
        _recurse(frames - 1)


def has_type(value: object) -> bool:
    """Says whether TorchScript finds a type for `value`, as it does for an argument of type Any."""
    _recurse(8)
    return bool(_C._jit_try_infer_type(value).success())


def references_in_cpp(tensors: list[torch.Tensor]) -> object:
    """Returns an object of C++ that refers to tensors, so that Python is not alone in doing so."""
    # To find the type of a list that has items, C++ runs Python. It crashes if a signal's handler raises there.
    references = _C.ScriptList([])  # is for tensors, as torch has it
    for tensor in tensors:
        references.append(tensor)
    return references


is_functional: Callable[[torch.Tensor], bool] = torch._is_functional_tensor
"""Says whether a tensor of class Tensor stands for another and has no storage, as in torch.func.functionalize."""


is_of_transform: Callable[[torch.Tensor], bool] = _C._functorch.is_functorch_wrapped_tensor
"""Says whether a torch.func transform, such as grad, made a tensor that stands for another. It has no storage."""


def stands_for_another(tensor: torch.Tensor) -> bool:
    """Says whether a tensor of class Tensor has no values of its own."""
    return is_functional(tensor) or is_of_transform(tensor)


def has_dispatch(tensor: torch.Tensor) -> bool:
    """Says whether operators on `tensor` run Python code of its class, or go to a tensor for which it stands."""
    return class_has_dispatch(type(tensor)) or stands_for_another(tensor)


def class_has_dispatch(cls: type[torch.Tensor]) -> bool:
    """Says whether operators on tensors of `cls` run Python code of that class."""
    return cls.__torch_dispatch__ is not _C._disabled_torch_dispatch_impl


is_transforming: Callable[[], object] = _C._functorch.peek_interpreter_stack
"""Is true if a torch.func transform, such as vmap, runs on this thread. Its tensors have no storage."""


has_modes: Callable[[], int] = _C._len_torch_dispatch_stack
"""Is true if a mode on this thread, such as FakeTensorMode, handles operators."""


def in_fake_mode() -> bool:
    """Says whether a FakeTensorMode is on in this thread: operators then make tensors that have no values."""
    return has_modes() > 0 and _C._get_dispatch_mode(_C._TorchDispatchModeKey.FAKE) is not None


def in_dual_level() -> bool:
    """Says whether a `dual_level` of forward-mode differentiation is open, in any thread."""
    return forward_ad._current_level >= 0


def is_view(tensor: torch.Tensor) -> bool:
    """Says whether a tensor is a view, which cannot be detached in place."""
    return tensor._is_view()


def indices_of(sparse: torch.Tensor) -> torch.Tensor:
    """Returns the indices of a sparse COO tensor, which need not be coalesced."""
    indices: torch.Tensor = sparse._indices()
    return indices


def stored_parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Returns the tensors that have the values of a tensor: itself, or the parts of a sparse one."""
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)


def set_coalesced(sparse: torch.Tensor) -> None:
    """Makes a sparse COO tensor say that it is coalesced. It must be."""
    sparse._coalesced_(True)


is_autocasting: Callable[[], bool] = _C._is_any_autocast_enabled
"""Says whether autocast is on for any kind of device on this thread."""


@contextlib.contextmanager
def without_inference() -> Iterator[None]:
    """Turns inference mode off on this thread, for sending, and keeps gradients off where it is on.

    torch may read answers in the thread that sends, those of other threads' calls, too. They would be tensors of
    inference.
    """
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Turns autocast off on this thread, for the kinds of devices for which TorchScript asks."""
    with contextlib.ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
