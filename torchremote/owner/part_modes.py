"""Checks and sets the modes of a module's parts, and keeps what a `train` of a user's own does to them.

Note [A train of its own]
    A class may have a `train` that leaves a part in another mode: a norm that stays frozen, or a dropout that drops in
    evaluation, too. A scripted module has none of its methods, and torch's `train` would set all parts alike. So
    whoever scripts a module finds out which parts such a `train` leaves in the other mode, and the scripted module
    keeps their names in an attribute, as an exported one does. `set_mode` sets these back.

    It is found out on a copy of the module whose tensors have no data: `train` may do more than to set modes. What
    cannot be copied, such as a lock, both have. If `train` raises there, nothing is noted, and all parts get one
    mode.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import ArgumentError
from ..jit.export import (
    MIXED,
    PartModes,
    has_own_train,
    misfit_of_mode,
    parts_in_other_mode,
    restore_parts,
    written,
)
from ..link.stubs import is_stub
from ..link.words import words_of

_log = logging.getLogger("torchremote")


@contextmanager
def noting_modes(module: nn.Module, modes: str) -> Iterator[None]:
    """Gives `module`, which is scripted meanwhile, the attribute with what `modes_by_own_train` has found."""
    if modes:
        setattr(module, MIXED, modes)
    try:
        yield
    finally:
        if modes:
            delattr(module, MIXED)


def modes_by_own_train(module: nn.Module) -> str:
    """Writes which parts a `train` of the user's own leaves in the other mode. "" if there is none, or none such."""
    if not has_own_train(module) or any(map(is_stub, module.modules())):  # a stub's sets the mode of a remote module
        return ""
    try:
        copied = _copied(module)
    except Exception as error:  # a part has a __deepcopy__ of its own
        _log.warning(
            "torchremote: %s cannot be copied, so what its train does is not known, and all its parts are set to the "
            "same mode: %s",
            type(module).__name__,
            words_of(error),
        )
        return ""
    try:
        return written({mode: _after_train(copied, mode) for mode in (True, False)})
    except Exception:  # of the user's code, for which data is missing, say
        return ""


def _copied(module: nn.Module) -> nn.Module:
    """Copies a module without the data of its tensors. Attributes that cannot be copied are those of `module`."""
    parts = [part for part in module.modules() if not hasattr(part, "__deepcopy__")]
    tensors = [tensor for part in module.modules() for tensor in (*part._parameters.values(), *part._buffers.values())]
    copies: dict[int, Any] = {id(tensor): _without_data(tensor) for tensor in tensors if tensor is not None}
    copies.update({id(part): part.__new__(type(part)) for part in parts})
    for part in parts:
        attributes = vars(copies[id(part)])
        for name, value in vars(part).items():
            try:
                attributes[name] = copy.deepcopy(value, copies)
            except Exception:
                if name == "_modules":
                    raise
                attributes[name] = value
    return copy.deepcopy(module, copies)


def _after_train(module: nn.Module, training: bool) -> PartModes:
    module.train(training)
    return PartModes(parts_in_other_mode(module, training))


def _without_data(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, tensor.requires_grad)
    return empty


def check_mode(module: torch.jit.ScriptModule, training: bool | None = None) -> None:
    """Raises ArgumentError if `module`, or a part of it, was exported, and not in this mode.

    See jit/export/modes.py, Note [Modes of parts].

    Args:
        training: the mode that is to be set. None: the one that each part is in.
    """
    for part in module.modules():
        said = "" if is_stub(part) else misfit_of_mode(part, training)
        if said:
            raise ArgumentError(said)


def set_mode(module: torch.jit.ScriptModule, training: bool) -> None:
    """Sets the mode of a module for which `check_mode` found it right."""
    module.train(training)
    for part in module.modules():
        if not is_stub(part):
            restore_parts(part)
