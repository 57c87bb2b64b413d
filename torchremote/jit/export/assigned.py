"""Buffers that a method assigns while it is traced: what is assigned is copied into the buffer itself."""

from __future__ import annotations

import torch
from torch import nn

from ... import _torch
from ...errors import CreationError

Assigned = set[tuple[str, str]]
"""The part and the name of each buffer that a method is known to assign."""


class Buffers:
    """The buffers of a module while a method is traced, which sees copies of those that it assigns.

    Args:
        assigned: those that it is known to assign.
        where: names interface and method in errors.
    """

    def __init__(self, module: nn.Module, assigned: Assigned, where: str) -> None:
        self._parts = dict(module.named_modules())
        self._assigned = assigned
        self._where = where
        self._own = {path: dict(part._buffers) for path, part in self._parts.items()}
        for path, name in assigned:
            own = self._own[path][name]
            self._parts[path]._buffers[name] = None if own is None else own.clone()

    def copy_back(self) -> bool:
        """Copies what was assigned to buffers into the buffers themselves. torch.export would lose it, in a part.

        The method has to see a copy of such a buffer, which its old value is in. So the first time it is traced again:
        True says so, and the buffer is in `assigned`.

        Raises:
            CreationError: what was assigned does not fit, or the method registers a buffer.
        """
        is_stale = False
        for path, part in self._parts.items():
            own = self._own[path]
            for name in part._buffers.keys() - own.keys():
                raise CreationError(
                    f"{self._where}: {type(part).__name__} registers the buffer {name}, which an exported module does "
                    "not keep; register it in __init__, in its full size, and change it in place"
                )
            for name, buffer in own.items():
                value = part._buffers.get(name)
                if value is buffer:
                    continue
                if buffer is None or value is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
                    raise CreationError(
                        f"{self._where}: {type(part).__name__} assigns a tensor of another size or dtype to its buffer "
                        f"{name}; an exported module keeps its buffers as they are; register the buffer in its full "
                        "size"
                    )
                if (path, name) not in self._assigned:
                    self._assigned.add((path, name))
                    is_stale = True
                if _torch.is_view(buffer):
                    with torch.no_grad():
                        buffer.copy_(value)
                else:  # with its gradient, and without that of what was assigned before
                    buffer.detach_().copy_(value)
        return is_stale

    def restore(self) -> None:
        """Gives the module its own buffers again. torch.export does so only for those that were tensors."""
        for path, part in self._parts.items():
            part._buffers.clear()
            part._buffers.update(self._own[path])


def check_apart(module: nn.Module, assigned: Assigned, where: str) -> None:
    """Raises CreationError if a buffer that a method assigns shares memory with another tensor of the module.

    What is assigned is copied into the buffer, so the other one would change, too.
    """
    tensors = {
        (path, name): value
        for path, part in module.named_modules()
        for name, value in {**vars(part), **part._parameters, **part._buffers}.items()
        if isinstance(value, torch.Tensor)
    }
    for path, name in sorted(assigned):
        memory = _memory(tensors[path, name])
        for (other_path, other), tensor in tensors.items():
            if (other_path, other) != (path, name) and memory is not None and _memory(tensor) == memory:
                prefix = f"{path}." if path else ""
                raise CreationError(
                    f"{where}: it assigns the buffer {prefix}{name}, which shares memory with "
                    f"{f'{other_path}.' if other_path else ''}{other}; an exported module copies what is assigned into "
                    "the buffer, so both would change; register it with .clone()"
                )


def _memory(tensor: torch.Tensor) -> int | None:
    """Returns what is equal for tensors that share memory, or None if it has none of its own."""
    if tensor.layout != torch.strided:
        return None
    return tensor.untyped_storage().data_ptr() or None
