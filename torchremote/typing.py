"""Types of interfaces and stubs, for type checkers. caller/typed.py has those that the generated files refer to.

Note [Typed stubs]
    No type says "a class, and four more methods for each of its own". So a generated `.pyi` beside the module of an
    interface spells them. It declares a class `<Interface>Stub`, and gives the interface a method that exists for type
    checkers alone and returns a stub. `create`, `connect` and the like are overloaded: an interface that has this
    method is a `HasStub`, and its stubs are of that class. Stubs of other interfaces are `Any`.
"""

from __future__ import annotations

from typing import Any, Protocol

from typing_extensions import TypeVar

StubT = TypeVar("StubT", default=Any)
"""The class of a stub. A `Pending` alone is a `Pending[Any]`."""

_Stub_co = TypeVar("_Stub_co", covariant=True)


class HasStub(Protocol[_Stub_co]):
    """An interface, as a class, whose stubs are known to type checkers."""

    def __torchremote_stub__(self) -> _Stub_co: ...
