"""Prepares many calls before a caller sends them: splits them into messages, and joins calls of batched methods.

A process compiles this text once, for all interfaces, on top of the text of message.py.
"""

# In TorchScript, a layout is an integer: 0 is strided, 1 is sparse COO.
# mypy: disable-error-code="operator,comparison-overlap,unreachable"

from __future__ import annotations

import math
from typing import Final, List

import torch
from torch import Tensor

from .message import begin_again, prepared, restored
from .tensors import sendable

MOST_CALLS: Final = 1000
MOST_BYTES: Final = 1 << 26
"""The limits of one message of many calls. It needs its bytes as memory on both workers at once."""


def bytes_of(tensor: Tensor) -> int:
    if tensor.layout > 0:  # sparse: what is sent are the entries
        indices, values = tensor._indices(), tensor._values()
        return indices.numel() * indices.element_size() + values.numel() * values.element_size()
    return tensor.numel() * tensor.element_size()


def measured(value: Tensor, devices: List[torch.device], where: str, message: List[Tensor], sizes: List[int]) -> Tensor:
    # `sizes`: the calls that the message has so far, and the bytes of their tensors.
    checked = prepared(value, devices, where, message)
    sizes[1] += bytes_of(checked)
    return checked


def begins_message(message: List[Tensor], sizes: List[int]) -> bool:
    begins = sizes[0] == 0 or sizes[0] == MOST_CALLS or sizes[1] > MOST_BYTES
    if begins:
        begin_again(message)
        sizes[0] = 0
        sizes[1] = 0
    sizes[0] += 1
    return begins


def same_float(first: float, other: float) -> bool:
    # 0.0 equals -0.0, but a method may tell them apart.
    return first == other and math.copysign(1.0, first) == math.copysign(1.0, other)


def taken(tensor: Tensor, tensors: List[Tensor], where: str) -> Tensor:
    sendable(tensor, None, where)
    tensors.append(tensor)
    return tensor


def joins(first: Tensor, other: Tensor, dim: int) -> bool:
    if other.layout > 0 or other.is_quantized or other.dim() != first.dim():
        return False
    if other.dtype != first.dtype or other.device != first.device or not -other.dim() <= dim < other.dim():
        return False
    for axis in range(other.dim()):
        if axis != dim % other.dim() and other.size(axis) != first.size(axis):
            return False
    return True


def rows_of(calls: List[List[Tensor]], dim: int) -> List[int]:
    # The size along `dim` of each call's tensors. Empty if the calls cannot be one.
    rows: List[int] = []
    cannot: List[int] = []
    size = 0
    for tensors in calls:
        if len(tensors) == 0:
            return cannot
        for place in range(len(tensors)):
            first, other = calls[0][place], tensors[place]
            size += other.numel() * other.element_size()
            if size > MOST_BYTES or not joins(first, other, dim) or other.size(dim) != tensors[0].size(dim):
                return cannot
        rows.append(tensors[0].size(dim))
    return rows


def concatenated(calls: List[List[Tensor]], dim: int) -> List[Tensor]:
    joined: List[Tensor] = []
    for place in range(len(calls[0])):
        joined.append(torch.cat([tensors[place] for tensors in calls], dim))
    return joined


def pieces_of(pieces: List[List[Tensor]], number: int) -> List[Tensor]:
    return [of_one[number] for of_one in pieces]


def cut_sparse(joined: Tensor, rows: List[int], dim: int) -> List[Tensor]:
    # Torch has no views of sparse tensors.
    joined = restored(joined)
    parts: List[Tensor] = []
    begin = 0
    for count in rows:
        parts.append(torch.narrow_copy(joined, dim % joined.dim(), begin, count))
        begin += count
    return parts


def cut(joined: Tensor, pieces: List[List[Tensor]], rows: List[int], dim: int, where: str) -> Tensor:
    if not -joined.dim() <= dim < joined.dim() or joined.size(dim) != sum(rows):
        raise RuntimeError(
            "torchremote: "
            + where
            + ": declared batched along dimension "
            + str(dim)
            + ", where "
            + str(sum(rows))
            + " slices were sent, and returned a tensor of shape "
            + str(joined.shape)
        )
    pieces.append(cut_sparse(joined, rows, dim) if joined.layout > 0 else list(joined.split(rows, dim)))
    return joined
