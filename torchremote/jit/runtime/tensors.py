"""Which tensors can cross: a function that makes one sendable or refuses it, in TorchScript, before it is sent.

Note [Tensors that hurt]
    torch's pickler asks a tensor for its storage on a thread of its own. A tensor that has none ends the process
    there: nested and opaque ones abort it, those of torch.func's transforms too, and fake ones crash it. Others raise
    something that names neither the call nor the argument. So every tensor is looked at first, wherever it is in a
    value: where a call is sent, and on the owner, where a result is.

    An empty view that begins after the end of its storage ends the process that receives it; a copy of it does not.

    `_has_same_storage_numel`, with a tensor that TorchScript keeps as a constant, says whether a storage is empty, as
    one that was freed is; where there is none, it raises, and for a fake tensor, too. It is the cheapest question that
    does: a call costs 9% more with the others that were tried, `is_set_to` and `as_strided`, which raises also where a
    storage was cut to less than the tensor needs, and not to nothing. That goes unnoticed. Subclasses that answer for a
    tensor inside them are refused in Python (values.py), where they come from, and so are functional ones.
"""

from __future__ import annotations

from typing import Final

from ..lower.ir import Function, Given

MOST_CALLS: Final = 1000
MOST_BYTES: Final = 1 << 26
"""What one message of many calls carries. Larger ones are no faster, and need as much memory on both sides at once."""

DEFINITIONS: Final = (
    Given(
        "refuse_tensor",
        Function,
        """
def refuse_tensor(value: Tensor, where: str) -> None:
    if value.is_nested:
        found = "a nested tensor cannot cross; pass its parts as a List[Tensor]"
    elif value.is_meta:
        found = "a meta tensor has no values to send; pass its shape as a List[int]"
    elif value.layout > 1:
        found = "a tensor in a layout other than strided and sparse COO cannot cross; pass value.to_dense()"
    elif value.is_cpu:
        found = "a tensor without storage of its own (a fake or freed one, say) cannot cross; pass a plain one"
    else:
        found = "a tensor on " + str(value.device) + ", which is not in the device map to the worker; pass value.cpu()"
    raise RuntimeError("torchremote: cannot send " + where + ": " + found)
""",
    ),
    Given(
        "can_cross",
        Function,
        """
def can_cross(value: Tensor, devices: Optional[List[torch.device]]) -> bool:
    if value.is_nested or value.is_meta or value.layout > 1:
        return False
    if value.is_cpu:
        if value.layout > 0:
            return True
        if value.nbytes > 0:
            return not torch.ops.aten._has_same_storage_numel(value, torch.zeros([0]))
        return value.is_set_to(value)
    if devices is not None:
        for device in devices:
            if device == value.device:
                return True
        return False
    return True
""",
    ),
    Given(
        "sendable",
        Function,
        """
def sendable(value: Tensor, devices: Optional[List[torch.device]], where: str) -> Tensor:
    if not can_cross(value, devices):
        refuse_tensor(value, where)
    if value.layout == 0 and value.nbytes == 0 and value.is_cpu and value.storage_offset() > 0:
        return value.clone()
    return value
""",
    ),
    Given(
        "counted",
        Function,
        """
def counted(value: Tensor, devices: List[torch.device], where: str, sizes: List[int]) -> Tensor:
    checked = sendable(value, devices, where)
    sizes[1] += checked.numel() * checked.element_size()
    return checked
""",
    ),
    Given(
        "begins_message",
        Function,
        f"""
def begins_message(sizes: List[int]) -> bool:
    begins = sizes[0] == 0 or sizes[0] == {MOST_CALLS} or sizes[1] > {MOST_BYTES}
    if begins:
        sizes[0] = 0
        sizes[1] = 0
    sizes[0] += 1
    return begins
""",
    ),
    Given(
        "alike",
        Function,
        """
def alike(first: float, other: float) -> bool:
    return first == other and math.copysign(1.0, first) == math.copysign(1.0, other)
""",
    ),
    Given(
        "joins",
        Function,
        f"""
def joins(first: Tensor, other: Tensor, dim: int, sizes: List[int], where: str) -> bool:
    sendable(other, None, where)
    if other.layout > 0 or other.is_quantized or other.dim() != first.dim():
        return False
    if other.dtype != first.dtype or other.device != first.device or not -other.dim() <= dim < other.dim():
        return False
    for axis in range(other.dim()):
        if axis != dim % other.dim() and other.size(axis) != first.size(axis):
            return False
    sizes[1] += other.numel() * other.element_size()
    return sizes[1] <= {MOST_BYTES}
""",
    ),
    Given(
        "cut",
        Function,
        """
def cut(joined: Tensor, rows: List[int], dim: int, where: str) -> List[Tensor]:
    if not -joined.dim() <= dim < joined.dim() or joined.size(dim) != sum(rows):
        raise RuntimeError(
            "torchremote: " + where + ": declared batched along dimension " + str(dim) + ", where " + str(sum(rows))
            + " slices were sent, and returned a tensor of shape " + str(joined.shape)
        )
    return list(joined.split(rows, dim))
""",
    ),
)
"""`sizes`: how many calls a message has already, and of how many bytes their tensors are.

`devices`: where a tensor may be, beside the CPU; None for anywhere."""
