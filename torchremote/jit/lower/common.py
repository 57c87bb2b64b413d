"""What is generated alike for every interface, once a process: the check of a tensor, and the walk through Any."""

from __future__ import annotations

from ..runtime import tensors
from ..runtime.anything import lower_anything
from . import ir
from .spell import Spelling

_SCOPE = "__torch__.torchremote"


def lower_tensors() -> ir.Unit:
    comment = "What is sent is looked at; the same for every interface."
    return ir.Unit(f"{_SCOPE}.tensors", "<torchremote tensors>", comment, tensors.DEFINITIONS)


def lower_any() -> ir.Unit:
    scope = f"{_SCOPE}.anything"
    comment = "Values of type Any, as far as TorchScript can look into them; the same for every interface."
    return ir.Unit(scope, "<torchremote anything>", comment, lower_anything(scope, Spelling()))
