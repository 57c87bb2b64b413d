"""Scripted stubs inside models: which they are, and which interface they were made or saved with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import torch

from .. import _torch
from ..errors import ArchiveError
from ..jit import CompiledInterface, compile_interface
from ..jit.lower import ADDRESS
from ..jit.read.parse import parse_interface
from .route import address_of


def is_stub(module: object) -> TypeGuard[torch.jit.ScriptModule]:
    """Says whether `module` is a scripted stub, connected or not."""
    return isinstance(module, torch.jit.ScriptModule) and _torch.has_method(module, ADDRESS)


def compiled_of(stub: torch.jit.ScriptModule) -> CompiledInterface:
    """Compiles the interface that a stub was made or saved with.

    Raises:
        ArchiveError: the stub comes from an archive that no torchremote like this one wrote.
        ProtocolError: a release saved it that this one does not understand.
    """
    address = address_of(stub)
    try:
        return compile_interface(parse_interface(address.qualified_name, address.declaration))
    except ValueError as error:  # of the parser, whatever the text
        raise ArchiveError(
            f"{address.qualified_name}: the stub was not saved by a torchremote like this: {error}"
        ) from error


def stubs_in(
    module: torch.nn.Module, parent: torch.nn.Module | None = None, key: str = ""
) -> Iterator[tuple[torch.nn.Module | None, str, torch.jit.ScriptModule]]:
    """Yields each stub in `module` with its parent and its name there: None and "" for `module` itself."""
    if is_stub(module):
        yield parent, key, module
        return
    for name, child in module._modules.items():
        if child is not None:
            yield from stubs_in(child, module, name)
