"""Checks tensors that are sent, and moves or detaches those that an owner returns.

A process compiles this text once, for all interfaces, on top of the text of ordinary.py.

Note [Tensors that hurt]
    torch's pickler asks a tensor for its storage on a thread of its own. A tensor that has none ends the process there:
    nested tensors, opaque ones and those of torch.func's transforms abort it, and fake ones crash it. Other tensors
    raise an error that names neither the call nor the argument. So every tensor in a value is checked first: the caller
    checks the tensors that it sends, and the owner those that it returns.

    An empty view that begins after the end of its storage ends the process that receives it. A copy of it does not.
    An empty quantized tensor ends it, too, and so does a copy.

    The check uses `_has_same_storage_numel` with an empty tensor, which TorchScript keeps as a constant. It says
    whether the storage is empty, as a freed one is. It raises if there is no storage, and for a fake tensor.

    The process that receives a tensor aborts if the storage is too small for its sizes, strides and offset: one that
    was cut with `resize_`, or that of quint4x2 and quint2x4, which have several elements in a byte. `unsqueeze` makes a
    view, for which torch compares them, and raises. Of the operators that do so it costs least. TorchScript has none
    that says how large a storage is.

    The sender aborts for a ZeroTensor, so a copy is sent. It also does for a small view of a large storage, which torch
    copies before it sends it, if the dtype is one that torch cannot copy: the integers of 1 to 7 bits.

    Of a sparse tensor, torch sends the indices and the values, so these two are checked. Beside a tensor that is
    quantized by channel, it sends the scales and zero points, so these are checked, too. Tensors on an accelerator are
    not checked for their storage.

    Some tensors keep their values in another one, and answer for it: subclasses, functional tensors, and those that a
    transform of torch.func has left behind. Python refuses them (link/tensors.py). In a scripted model, and as a
    result, only the native part can tell them: it looks at the tensor, and does not ask it.

Note [Tensors in inference mode]
    Operators see a resolved copy of a tensor that is conjugated or negated lazily, and of a ZeroTensor. Those that ask
    for these flags see the tensor itself, but not in inference mode: there they say that it is plain. But `is_set_to`
    compares two copies then, so such a tensor is not set to itself. A copy of it is sent.

Note [Tensors that Python knows]
    A message that was written lets go of its tensors. Whoever lets go of a tensor that Python knows takes the GIL. Here
    that may be any thread that sends something: one of them writes for all. If it holds torch's lock for references at
    that moment, as it does when it drops one, and a thread that has the GIL drops another, they wait for each other,
    and with them the whole process, for ever. Also, messages wait while Python is busy. So what is sent in a tensor's
    place is another one with its storage, of which Python knows nothing.
"""

# In TorchScript, a layout is an integer: 0 is strided, 1 is sparse COO.
# mypy: disable-error-code="operator,comparison-overlap,unreachable"

from __future__ import annotations

from typing import Final, List, Optional

import torch
from torch import Tensor

from .ordinary import has_room

HAS_DEVICE_MAP: Final = 1
NO_GRAD: Final = 2
"""The flags that a call carries. HAS_DEVICE_MAP: the caller has a device map to the owner, so results may stay on the
owner's accelerator. NO_GRAD: the caller's grad mode is off, so the method runs without gradients and no result requires
one."""
IN_TURN: Final = 8
"""The flag of a call that its owner runs in turn. No caller sends it: see turns.py, Note [Results of calls in turn]."""
TO_CPU: Final = 1
DETACH: Final = NO_GRAD
COPY: Final = IN_TURN
"""The changes to a tensor that an owner returns."""
ARE_CHANGES: Final = DETACH | COPY
"""The flags of a call that are changes, too."""
CANNOT_SEND: Final = "torchremote: cannot send "
"""The beginning of the refusal of a tensor or value. link/failures.py looks for it."""
NEVER_COMES: Final = (
    ": an argument requires a gradient and nothing in the result does, so dist_autograd.backward would wait for ever "
    "in this context; call it under torch.no_grad(), or declare the method with @torchremote.detached"
)
"""The end of the refusal of a call whose gradients would never come. A RemoteError begins with the method already."""
FIRST_PACKED: Final = 16
LAST_PACKED: Final = 17
FIRST_OF_BITS: Final = 30
LAST_OF_BITS: Final = 43
"""Dtypes, which are integers in TorchScript. The packed ones are quint4x2 and quint2x4. Those of bits are uint1 to
uint7 and int1 to int7."""
PER_CHANNEL: Final = "134"
"""The numbers of quantization schemes with parameters for each channel. TorchScript knows them as text alone."""


def is_packed(value: Tensor) -> bool:
    return value.dtype >= FIRST_PACKED and value.dtype <= LAST_PACKED


def is_of_bits(value: Tensor) -> bool:
    return value.dtype >= FIRST_OF_BITS and value.dtype <= LAST_OF_BITS


def is_by_channel(value: Tensor) -> bool:
    return value.is_quantized and str(value.qscheme()) in PER_CHANNEL


def refuse_tensor(value: Tensor, where: str) -> None:
    if value.is_nested:
        found = "a nested tensor cannot cross; pass its parts as a List[Tensor]"
    elif value.is_meta:
        found = "a meta tensor has no values to send; pass its shape as a List[int]"
    elif value.layout > 1:
        found = "a tensor in a layout other than strided and sparse COO cannot cross; pass value.to_dense()"
    elif is_packed(value):
        found = "a tensor with several elements in a byte cannot cross; pass value.dequantize()"
    elif is_of_bits(value):
        found = "a tensor of 1 to 7 bits cannot cross, because torch cannot copy it; pass value.view(torch.uint8)"
    elif value.is_quantized and value.numel() == 0:
        found = "an empty quantized tensor cannot cross; pass value.dequantize()"
    elif value.is_cpu:
        found = "a tensor without storage of its own (a fake or freed one, say) cannot cross; pass a plain one"
    else:
        found = "a tensor on " + str(value.device) + ", which is not in the device map to the worker; pass value.cpu()"
    raise RuntimeError(CANNOT_SEND + where + ": " + found)


def has_values(value: Tensor) -> bool:
    if is_packed(value) or is_of_bits(value):
        return False
    if value.numel() > 0:
        return has_room(value)
    return not value.is_quantized and (value.is_set_to(value) or has_room(value))


def is_replaced(value: Tensor) -> bool:
    # Says whether torch shows operators another tensor in the place of `value`, and cannot send it as it is: see
    # Note [Tensors in inference mode].
    return not value.is_set_to(value) and (value._is_zerotensor() or not (value.is_conj() or value.is_neg()))


def can_cross(value: Tensor, devices: Optional[List[torch.device]]) -> bool:
    # `devices`: the devices, beside the CPU, on which a tensor may be. None allows any.
    if value.is_nested or value.is_meta or value.layout > 1:
        return False
    if value.is_cpu:
        if value.layout > 0:
            return has_values(value._indices()) and has_values(value._values())
        if is_by_channel(value):
            scales, zeros = value.q_per_channel_scales(), value.q_per_channel_zero_points()
            return has_values(value) and has_values(scales) and has_values(zeros)
        return has_values(value)
    if devices is not None:
        for device in devices:
            if device == value.device:
                return True
        return False
    return True


def sendable(value: Tensor, devices: Optional[List[torch.device]], where: str) -> Tensor:
    # Returns the tensor, or what is sent in its place.
    if not can_cross(value, devices):
        refuse_tensor(value, where)
    if (value.is_cpu or value.is_cuda) and value.layout == 0 and not value.is_quantized and is_replaced(value):
        return value.clone()
    if value.is_cpu and value.layout == 0 and value.numel() == 0 and value.storage_offset() > 0:
        return value.clone()
    return value


def flags_of(devices: List[torch.device]) -> int:
    return HAS_DEVICE_MAP if len(devices) > 0 else 0


def flags_now(flags: int) -> int:
    # Adds the caller's grad mode, as it is now, to the flags of its link.
    return flags if torch.is_grad_enabled() else flags | NO_GRAD


def needs_grad(flags: int) -> bool:
    return flags & NO_GRAD == 0


def changes_of(flags: int, moves: bool) -> int:
    changes = flags & ARE_CHANGES
    if moves and flags & HAS_DEVICE_MAP == 0:
        changes |= TO_CPU
    return changes


def detaching_changes_of(flags: int, moves: bool) -> int:
    return changes_of(flags, moves) | DETACH


def detached(value: Tensor) -> Tensor:
    return value.detach() if value.requires_grad else value


def is_recorded(value: Tensor) -> bool:
    # Says whether torch has recorded a call for distributed autograd, for a tensor among its arguments.
    return value.requires_grad and not value.is_leaf


def is_differentiable(value: Tensor) -> bool:
    return value.requires_grad


def refuse_without_gradient(where: str) -> None:
    raise RuntimeError(where + NEVER_COMES)
