"""Finds the scripted stubs inside a model, and the interface of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import torch

from .. import _torch
from ..errors import ArchiveError
from ..jit import CompiledInterface, compile_interface
from ..jit.lower import ADDRESS
from ..jit.read.parse import parse_interface
from .route import Address


def is_stub(module: object) -> TypeGuard[torch.jit.ScriptModule]:
    """Says whether `module` is a scripted stub, connected or not."""
    return isinstance(module, torch.jit.ScriptModule) and _torch.has_method(module, ADDRESS)


def compiled_from(qualified_name: str, text: str) -> CompiledInterface:
    """Compiles an interface from its canonical text, with marks or without, as it is sent and saved.

    Raises:
        ValueError: this release of torchremote cannot read the text.
    """
    return compile_interface(parse_interface(qualified_name, text))


def compiled_at(address: Address) -> CompiledInterface:
    """Compiles the interface of the stubs that have this address.

    Raises:
        ArchiveError: this release of torchremote cannot read the interface that an archive has.
    """
    try:
        return compiled_from(address.qualified_name, address.declaration)
    except ValueError as error:  # the parser raises it for any text that it cannot read
        raise ArchiveError(
            f"{address.qualified_name}: the stub was not saved by a torchremote like this: {error}"
        ) from error


def has_stubs(module: torch.nn.Module) -> bool:
    """Says whether `module` is a stub, or there is one in it."""
    return any(True for _ in stubs_in(module))


def stubs_in(
    module: torch.nn.Module, parent: torch.nn.Module | None = None, key: str | None = None
) -> Iterator[tuple[torch.nn.Module | None, str | None, torch.jit.ScriptModule]]:
    """Yields each stub in `module` with its parent and its name in the parent.

    For `module` itself, both are None. A stub in a list or dict that is an attribute of a scripted module has no name.
    """
    if is_stub(module):
        yield parent, key, module
        return
    if isinstance(module, torch.jit.RecursiveScriptModule):
        yield from ((module, None, one) for one in _torch.modules_in_attributes(module) if is_stub(one))
    for name, child in module._modules.items():
        if child is not None:
            yield from stubs_in(child, module, name)
