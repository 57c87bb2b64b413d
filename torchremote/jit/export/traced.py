"""Is what torch.export traces: a module of ours that calls a method of the user's.

Note [What is traced]
    torch.export is given a module of ours. Its forward takes the leaves of the example, calls the user's method with
    the values that they make up, and returns the leaves of the result. So torch.export sees tensors and integers only,
    whatever types the interface declares, and all other values are constants that the generated code compares.

    A method may ask what torch.export assumes nothing about: whether a tensor requires a gradient, and how it lies in
    memory. If it does, calls are compared with the example in that, too. So are the module's own parameters and
    buffers, if it asks of one of them whether it requires a gradient; and all of them, if it asks that of a tensor that
    it computed.

    What it changes beside its buffers would be lost, and is refused: see state.py. A buffer that it assigns is
    changed in place after the method, which is traced with a copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from torch import nn

from ...errors import CreationError
from ..read.model import Method
from ..script.classes import Classes
from .assigned import Assigned, Buffers
from .examples import bound_arguments
from .state import State
from .values import Reader, Tree, put_together
from .watching import GradientsLost, Watching, tensors_of

MODULE: Final = "module"
"""The attribute under which the traced module has the user's; torch.export names parameters by it."""


@dataclass
class Call:
    """The call that is traced. torch.export does not look into it, as it does into lists and dicts."""

    method: Method
    arguments: tuple[Tree, ...]
    classes: Classes
    where: str
    result: Tree | None = None
    asked: frozenset[str] = frozenset()  # what the method asked
    asked_of: frozenset[str] = frozenset()  # the parameters and buffers of which it asked GRADIENT
    assigned: Assigned = field(default_factory=set)
    is_stale: bool = False  # it assigned a buffer that was not known to be assigned


class Traced(nn.Module):
    """Calls a method of the user's module with the leaves of its arguments: see Note [What is traced]."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module = module
        self.call = call
        self.training = module.training

    def forward(self, *leaves: Any) -> tuple[Any, ...]:
        method, classes, where = self.call.method, self.call.classes, self.call.where
        values = {
            argument.name: put_together(tree, argument.type, leaves, classes)
            for argument, tree in zip(method.arguments, self.call.arguments, strict=True)
        }
        module: nn.Module = self.module
        # Calling the module runs its hooks, too.
        call = module if method.name == "forward" else getattr(module, method.name)
        positional, named = bound_arguments(getattr(module, method.name), method, values, where)
        self.call.is_stale = False
        before = State(module, traced=True)
        buffers = Buffers(module, self.call.assigned, where)
        watching = Watching(list(leaves), tensors_of(module), where)
        try:
            with watching.patches(), watching:
                result = call(*positional, **named)
            self.call.is_stale = buffers.copy_back()
        finally:
            buffers.restore()
            changed = before.changed()
        if watching.loses_region:
            raise GradientsLost
        self.call.asked, self.call.asked_of = frozenset(watching.asked), frozenset(watching.asked_of)
        if changed is not None:
            raise CreationError(
                f"{where}: {type(module).__name__} changes its attribute {changed}, which an exported module cannot "
                "keep; make it a tensor, register it with register_buffer, and change it in place"
            )
        reader = Reader(classes)
        self.call.result = reader.read_result(result, method.returns, f"{where}.return")
        return tuple(reader.leaves)
