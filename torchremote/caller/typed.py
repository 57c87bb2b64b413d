"""Declares the types to which the files of `python -m torchremote stubs` refer: see typing.py, Note [Typed stubs]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import torch
from torch.distributed.rpc import RRef as RRef
from typing_extensions import TypeVar

from ..errors import TorchRemoteError
from .messages.answer import Answer as Answer

_Call_contra = TypeVar("_Call_contra", contravariant=True)
_Result = TypeVar("_Result")


if TYPE_CHECKING:

    class TypedStub(torch.nn.Module):
        """A stub, whose methods a subclass declares. It has no others."""

        # Module's own makes any name a Tensor or a Module, so that no misspelled method would be found.
        __getattr__: None  # type: ignore[assignment, misc]


class Many(Protocol[_Call_contra, _Result]):
    """Makes many calls of a method. A call is a tuple of arguments, or a mapping from their names."""

    @overload
    def __call__(
        self, calls: Iterable[_Call_contra | Mapping[str, Any]], *, return_exceptions: Literal[False] = False
    ) -> list[_Result]: ...
    @overload
    def __call__(
        self, calls: Iterable[_Call_contra | Mapping[str, Any]], *, return_exceptions: bool
    ) -> list[_Result | TorchRemoteError]: ...


class ManyAsync(Protocol[_Call_contra, _Result]):
    """Makes many calls of a method, and returns a Future of the results. A call is as for `Many`."""

    @overload
    def __call__(
        self, calls: Iterable[_Call_contra | Mapping[str, Any]], *, return_exceptions: Literal[False] = False
    ) -> Answer[list[_Result]]: ...
    @overload
    def __call__(
        self, calls: Iterable[_Call_contra | Mapping[str, Any]], *, return_exceptions: bool
    ) -> Answer[list[_Result | TorchRemoteError]]: ...
