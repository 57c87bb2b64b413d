"""Refuses to save a model with stubs that cannot be saved.

Note [Before a file is touched]
    A stub that cannot be saved raises when TorchScript asks for its state. By then torch has opened the file, and its
    old content is lost. So once a process has a stub, every scripted module's `save` asks its stubs first.
"""

from __future__ import annotations

import functools

import torch

from ... import _torch
from ...errors import NotSavableError
from ...link.failures import FAILURES, message_of
from ...link.stubs import stubs_in


@functools.cache
def refuse_before_saving() -> None:
    """Makes every scripted module's `save` ask its stubs first. Does so once a process."""
    _torch.before_saving(_check_savable)


def _check_savable(module: torch.jit.ScriptModule) -> None:
    """Raises NotSavableError if a stub in `module` cannot be saved."""
    for _, _, stub in stubs_in(module):
        try:
            _torch.scripted_method(stub, "__getstate__")()
        except FAILURES as error:
            raise NotSavableError(message_of(error).removeprefix("torchremote: ")) from None
