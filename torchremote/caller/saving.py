"""What is refused before a model with stubs is saved.

Note [Before a file is touched]
    A stub that cannot be saved says so when TorchScript asks for its state. By then torch has opened the file, and what
    was in it is lost. So, from the first stub on, a scripted module's `save` asks before it begins.
"""

from __future__ import annotations

import functools

import torch

from .. import _torch
from ..errors import NotSavableError
from ..link.failures import FAILURES, message_of
from ..link.stubs import stubs_in


@functools.cache
def refuse_before_saving() -> None:
    """Has every scripted module's `save` ask first; once a process."""
    _torch.before_saving(_check_savable)


def _check_savable(module: torch.jit.ScriptModule) -> None:
    for _, _, stub in stubs_in(module):
        try:
            _torch.scripted_method(stub, "__getstate__")()
        except FAILURES as error:
            raise NotSavableError(message_of(error).removeprefix("torchremote: ")) from None
