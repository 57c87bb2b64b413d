"""Types of stubs, for type checkers. `python -m torchremote stubs` writes files that refer to them.

Note [Typed stubs]
    No type says "a class, and three more methods for each of its own". So a generated `.pyi` beside the module of an
    interface spells them. It declares a class `<Interface>Stub`, and gives the interface a method that exists for type
    checkers alone and returns a stub. `create`, `connect` and the like are overloaded: an interface that has this
    method is a `HasStub`, and its stubs are of that class. Stubs of other interfaces are `Any`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

    from .errors import TorchRemoteError

StubT = TypeVar("StubT", default=Any)
"""The class of a stub. A `Pending` alone is a `Pending[Any]`."""

_Stub_co = TypeVar("_Stub_co", covariant=True)
_Call_contra = TypeVar("_Call_contra", contravariant=True)
_Result = TypeVar("_Result")


class HasStub(Protocol[_Stub_co]):
    """An interface, as a class, whose stubs are known to type checkers."""

    def __torchremote_stub__(self) -> _Stub_co: ...


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
    ) -> torch.futures.Future[list[_Result]]: ...
    @overload
    def __call__(
        self, calls: Iterable[_Call_contra | Mapping[str, Any]], *, return_exceptions: bool
    ) -> torch.futures.Future[list[_Result | TorchRemoteError]]: ...
