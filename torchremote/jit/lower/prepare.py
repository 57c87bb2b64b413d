"""Makes the converter that prepares the tensors of a call before a caller sends it."""

from __future__ import annotations

from ..read.model import Method
from . import ir
from .convert import Converter, Direction
from .names import Names
from .source_names import SourceNames


def preparing(
    direction: Direction,
    method: Method,
    names: Names,
    source_names: SourceNames,
    devices: ir.Expression,
    where: ir.Expression,
    message: ir.Name,
    sizes: ir.Name | None = None,
) -> Converter:
    """Returns a converter that prepares tensors for a message, and adds up their bytes: see runtime/message.py.

    It detaches them if the method carries no gradients: see gradients.py, Note [Gradients that never come].

    Args:
        direction: whether the values are packed already, or the converter packs them.
        devices: those on which tensors may be, besides the CPU.
        message: the tensors that the message has so far.
        sizes: where bytes are added up, for many calls: see runtime/batches.py.
    """

    def prepare(tensor: ir.Expression) -> ir.Expression:
        if not method.carries_gradients:
            tensor = ir.call("detached", tensor)
        if sizes is not None:
            return ir.call("measured", tensor, devices, where, message, sizes)
        return ir.call("prepared", tensor, devices, where, message)

    def prepare_any(value: ir.Expression) -> ir.Expression:
        function = "prepared_any" if method.carries_gradients else "detached_any"
        return ir.call(function, value, devices, where, message)

    return Converter(names, source_names, direction, prepare, prepare_any)
