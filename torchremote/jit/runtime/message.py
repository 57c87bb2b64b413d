"""Prepares the tensors of one message, which may share storages, and carries which sparse ones are coalesced.

A process compiles this text once, for all interfaces, on top of the text of tensors.py. In it, a message is the list of
the tensors that it has so far.

Note [Shared storages]
    torch sends a storage once a message, with the dtype of the first tensor that has it. On arrival, all tensors of
    that storage get that dtype: they have wrong values, or end the process if they do not fit. So a tensor that shares
    its storage with one of another dtype is sent as a copy. The indices and values of a sparse tensor are such tensors,
    too, and so are the scales and zero points of a quantized one.

    TorchScript cannot say which storage a tensor has. But empty views of two tensors are set to the same place only if
    their storages are the same. While all tensors of a message have one dtype, nobody asks. From then on, a tensor is
    compared with all of other dtypes. If copying it costs less, it is copied at once. So the time for a message is
    linear in its bytes.

Note [Coalesced tensors]
    torch sends the indices and values of a sparse tensor, and not whether it is coalesced. But the indices keep their
    offset in their storage. So a sender gives a coalesced tensor indices with the offset 1, and any other tensor that
    has this offset by chance a copy with 0. The receiver sets the flag of those with 1. With less than two values,
    torch says itself that a tensor is coalesced.

    A call carries HAS_SPARSE if it has sparse tensors, so an owner need not look for them in other calls. Results have
    no such flag. Callers in Python look, and so does TorchScript when it waits in the call. `<m>_async` in TorchScript
    gives torch's own Future, in which nobody looks: to look there would cost a switch of threads.

Note [Out of line]
    TorchScript copies every function into its callers, and then a call costs time for each value in the graph, also
    where it does not come by. It does not do so with a method of an interface. So what is rarely needed is behind one.
"""

# In TorchScript, a layout is an integer: 0 is strided, 1 is sparse COO. A dtype is one, too.
# mypy: disable-error-code="operator,comparison-overlap,unreachable,attr-defined,call-overload"

from __future__ import annotations

from typing import Final, List, Optional, Protocol

import torch
from torch import Tensor

from .ordinary import is_ordinary, like_it, unknown_to_python
from .tensors import COPY, DETACH, FIRST_OF_BITS, HAS_DEVICE_MAP, TO_CPU, is_by_channel, sendable

HAS_SPARSE: Final = 4
"""The flag of a call with sparse tensors, beside those of tensors.py."""
MARK: Final = 1
"""The offset of the indices of coalesced tensors."""
MIXED: Final = FIRST_OF_BITS
"""The dtype, uint1, of the first tensor of a message that has several dtypes. None that is sent has it: see `mix`."""
WORTH_ASKING: Final = 4096
"""The bytes that are copied in about the time in which two tensors are compared."""


def storage_of(value: Tensor) -> Tensor:
    # Returns an empty view of the storage. Of what is conjugated or negated lazily, as_strided makes a copy.
    if value.is_conj():
        value = torch.conj(value)
    if value.is_neg():
        value = torch.ops.aten._neg_view(value)
    return value.as_strided([0], [1], 0)


def share_storage(value: Tensor, other: Tensor) -> bool:
    return value.device == other.device and storage_of(value).is_set_to(storage_of(other))


def mark_of_mixed(size: List[int]) -> Tensor:
    # It is no constant, because torch cannot compare those. It has no memory: if torch is to be deterministic, it would
    # fill that, and it cannot with this dtype.
    return torch.empty(size, dtype=torch.uint1, device="meta")


def mix(message: List[Tensor]) -> None:
    # From when a message has several dtypes, it has empty views of storages in place of tensors. The first is no view,
    # but says that it is so. It has elements if the message has a sparse tensor.
    if len(message) == 0 or message[0].dtype != MIXED:
        for place, value in enumerate(message):
            message[place] = storage_of(value)
        message.insert(0, mark_of_mixed([len(message), 0]))


def note_sparse(message: List[Tensor]) -> None:
    mix(message)
    message[0] = mark_of_mixed([len(message)])


def clashes(value: Tensor, message: List[Tensor]) -> bool:
    # Says whether a dense tensor must be copied, or is because that is cheap. Copies of dense ones keep their strides.
    if len(message) == 0 or message[0].dtype == value.dtype:
        return False
    if value.numel() * value.element_size() < WORTH_ASKING * len(message) and value.is_non_overlapping_and_dense():
        return True
    mix(message)
    storage = storage_of(value)
    for other in message:
        if other.dtype != value.dtype and other.device == value.device and other.is_set_to(storage):
            return True
    return False


def note(value: Tensor, message: List[Tensor]) -> None:
    if value.is_quantized or (len(message) > 0 and message[0].dtype != value.dtype):
        mix(message)
        message.append(storage_of(value))
    else:
        message.append(value)


def parts_of(value: Tensor) -> List[Tensor]:
    # Returns the tensors that torch sends for a tensor. Nothing is a view of one that is quantized by channel.
    if value.layout > 0:
        return [value._indices(), value._values()]
    if is_by_channel(value):
        return [value.q_per_channel_scales(), value.q_per_channel_zero_points()]
    return [value]


def must_be_copied(parts: List[Tensor], message: List[Tensor]) -> bool:
    for place, part in enumerate(parts):
        for other in parts[:place]:
            if part.dtype != other.dtype and share_storage(part, other):
                return True
        if clashes(part, message):
            return True
    return False


def copied(value: Tensor) -> Tensor:
    if is_by_channel(value):  # a clone has the same scales
        parts = value.int_repr(), value.q_per_channel_scales().clone(), value.q_per_channel_zero_points().clone()
        return torch._make_per_channel_quantized_tensor(parts[0], parts[1], parts[2], value.q_per_channel_axis())
    return like_it(value.clone(), value)


def kept_apart(value: Tensor) -> Tensor:
    # Copies a result, so that no later call changes it. What is there several times, as in an expanded one, is once.
    if value.layout > 0 or value.is_quantized or value.is_non_overlapping_and_dense():
        return copied(value)
    once = value
    for dim in range(value.dim()):
        if value.stride(dim) == 0 and value.size(dim) > 1:
            once = once.narrow(dim, 0, 1)
    return like_it(once.clone().expand(value.size()), value)


def marked(value: Tensor) -> Tensor:
    # Gives the indices of a sparse tensor the offset that says whether it is coalesced.
    indices = value._indices()
    is_marked = indices.storage_offset() == MARK
    if value._nnz() < 2 or value.is_coalesced() == is_marked:
        return value
    if is_marked:
        return copied(value)
    padded = torch.cat([torch.zeros([MARK], dtype=indices.dtype, device=indices.device), indices.flatten()])
    marked_indices = padded[MARK:].view(indices.size())
    # The public values() has a gradient.
    sparse = torch.ops.aten._sparse_coo_tensor_unsafe(
        marked_indices, value.values(), value.size(), dtype=value.dtype, device=value.device, is_coalesced=True
    )
    return like_it(sparse, value)


def prepared_in_parts(value: Tensor, message: List[Tensor]) -> Tensor:
    if must_be_copied(parts_of(value), message):
        value = copied(value)
    if value.layout > 0:
        note_sparse(message)
        value = marked(value)
    for part in parts_of(value):
        note(part, message)
    return value


def prepared_beside(value: Tensor, message: List[Tensor]) -> Tensor:
    # Prepares any tensor, also one of several parts, or beside tensors of another dtype.
    if value.layout > 0 or value.is_quantized:
        return prepared_in_parts(value, message)
    if clashes(value, message):
        return copied(value)
    note(value, message)
    return value


class Preparing(Protocol):
    def prepared(
        self, value: Tensor, devices: Optional[List[torch.device]], where: str, message: List[Tensor]
    ) -> Tensor:
        pass

    def kept_apart(self, value: Tensor, where: str) -> Tensor:
        pass


class PreparingAny:
    def __init__(self) -> None:
        pass

    def prepared(
        self, value: Tensor, devices: Optional[List[torch.device]], where: str, message: List[Tensor]
    ) -> Tensor:
        return unknown_to_python(prepared_beside(sendable(value, devices, where), message))

    def kept_apart(self, value: Tensor, where: str) -> Tensor:
        return kept_apart(sendable(value, None, where))


class OutOfLine:
    # See Note [Out of line].
    def __init__(self, preparing: Preparing):
        self.preparing = preparing


def prepared(value: Tensor, devices: Optional[List[torch.device]], where: str, message: List[Tensor]) -> Tensor:
    # Checks a tensor and adds it to the message. Returns what is sent in its place. That is what is checked: a mode of
    # torch's, as FakeTensorMode, may have made it.
    sent = unknown_to_python(value)
    if is_ordinary(sent) and (len(message) == 0 or message[0].dtype == value.dtype):
        message.append(value)
        return sent
    return OutOfLine(PreparingAny()).preparing.prepared(value, devices, where, message)


def returned(value: Tensor, changes: int, where: str, message: List[Tensor]) -> Tensor:
    # torch itself refuses a result on a device that is not in the caller's device map.
    if changes != 0:
        if changes != DETACH:
            if changes & COPY != 0:
                value = OutOfLine(PreparingAny()).preparing.kept_apart(value, where)
            if changes & TO_CPU != 0:
                value = value.cpu()
        if changes & DETACH != 0 and value.requires_grad:
            value = value.detach()
    return prepared(value, None, where, message)


def restored(value: Tensor) -> Tensor:
    # Sets the flag of a tensor that was sent coalesced.
    if value.layout > 0 and value._indices().storage_offset() == MARK and not value.is_coalesced():
        with torch.no_grad():  # there is no derivative of it
            value._coalesced_(True)
    return value


def with_sparse(flags: int, message: List[Tensor]) -> int:
    # Adds the flag of sparse tensors, if the message has one, to those of a call.
    if len(message) > 0 and message[0].dtype == MIXED and message[0].numel() > 0:
        return flags | HAS_SPARSE
    return flags


def begin_again(message: List[Tensor]) -> None:
    # Forgets the tensors, and not whether one was sparse.
    has_sparse = with_sparse(0, message) > 0
    message.clear()
    if has_sparse:
        note_sparse(message)


def has_sparse(flags: int) -> bool:
    return flags & HAS_SPARSE != 0


def flags_of_torchs_call(is_device_map_set: bool) -> int:
    # Nobody says in such a call that it has no sparse tensors.
    return HAS_SPARSE | HAS_DEVICE_MAP if is_device_map_set else HAS_SPARSE
