"""Stubs inside models, and what is refused before a model with stubs is saved.

Note [Before a file is touched]
    A stub that cannot be saved says so when TorchScript asks for its state. By then torch has opened the file, and what
    was in it is lost. So, from the first stub on, a scripted module's `save` asks before it begins.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TypeGuard

import torch

from .. import _torch
from ..errors import ArchiveError, NotSavableError
from ..jit import CompiledInterface, compile_interface
from ..jit.lower import ADDRESS
from ..jit.read.parse import parse_interface
from .failures import FAILURES, message_of


def is_stub(module: object) -> TypeGuard[torch.jit.ScriptModule]:
    return isinstance(module, torch.jit.ScriptModule) and _torch.has_method(module, ADDRESS)


def compiled_of(stub: torch.jit.ScriptModule) -> CompiledInterface:
    """The interface that a stub was made or saved with, compiled here.

    Raises:
        ArchiveError: the stub comes from an archive that no torchremote like this one wrote.
    """
    qualified_name, declaration, *_ = _torch.scripted_method(stub, ADDRESS)()
    try:
        return compile_interface(parse_interface(qualified_name, declaration))
    except ValueError as error:  # of the parser, whatever the text
        raise ArchiveError(f"{qualified_name}: the stub was not saved by a torchremote like this: {error}") from error


def stubs_in(
    module: torch.nn.Module, parent: torch.nn.Module | None = None, key: str = ""
) -> Iterator[tuple[torch.nn.Module | None, str, torch.jit.ScriptModule]]:
    """Each stub in `module` with its parent and its name there; `module` itself, if it is one, with None and ""."""
    if is_stub(module):
        yield parent, key, module
        return
    for name, child in module._modules.items():
        if child is not None:
            yield from stubs_in(child, module, name)


@functools.cache
def refuse_before_saving() -> None:
    """See Note [Before a file is touched]; once a process."""
    _torch.before_saving(_check_savable)


def _check_savable(module: torch.jit.ScriptModule) -> None:
    for _, _, stub in stubs_in(module):
        try:
            _torch.scripted_method(stub, "__getstate__")()
        except FAILURES as error:
            raise NotSavableError(message_of(error).removeprefix("torchremote: ")) from None
