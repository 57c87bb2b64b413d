"""The model of an interface: frozen, printable, digestible. It knows nothing of torch. parse.py reads its text.

Note [Canonical text]
    An interface is written as its named types, each after those that it refers to, and its methods, sorted by name::

        enum parts.Color: RED = 1, GREEN = 2
        tuple parts.Pair(a: Tensor, b: parts.Color)
        forward(x: Tensor, scale: float) -> Tensor
        topk(x: Tensor, k: int) -> parts.Pair

    This is the contract between caller and owner. The digest hashes it, and the owner is sent it when it has to
    compile an interface that it never imported. Argument names are part of it: TorchScript compares them when it
    checks a module against an interface. So is the mark of a method that carries no gradients, `@detached`. The class's
    name, docstrings, default values, and keyword-only, batched and idempotent markers are the caller's own affair, and
    are not part of it.

    An archive of a stub needs the caller's part, too. The interface's `declaration` has it::

        @batched(0) forward(x: Tensor, scale: float = 1.0) -> Tensor
        topk(x: Tensor, *, k: int = 5) -> parts.Pair
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, Final

from .literals import Value, literal
from .types import ListType, NamedType, TupleType, Type, check_identifier, holds_tensors, named_types


class Required:
    """The default of an argument that has none; None is a default like any other."""

    def __repr__(self) -> str:
        return "REQUIRED"

    def __reduce__(self) -> str:
        return "REQUIRED"  # pickled by name: there is one


REQUIRED: Final = Required()

RESERVED_PREFIX: Final = "_torchremote"
"""Begins the names of a stub's own attributes: an interface's methods may not begin so."""


@dataclass(frozen=True)
class Argument:
    name: str
    type: Type
    default: Value | Required = REQUIRED  # a value of `type`, without lists and dicts
    keyword_only: bool = False

    def __post_init__(self) -> None:
        check_identifier(self.name)

    @property
    def has_default(self) -> bool:
        return self.default is not REQUIRED

    @property
    def declaration(self) -> str:
        return str(self) if isinstance(self.default, Required) else f"{self} = {literal(self.default)}"

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(frozen=True)
class Method:
    name: str
    arguments: tuple[Argument, ...]  # in the order in which they cross: keyword-only ones last
    returns: Type
    batched: int | None = None  # the dimension along which calls may be joined: see lower/joining.py
    each: Method | None = None  # for a method's `many`, that method
    detached: bool = False  # declared to carry no gradients
    idempotent: bool = False  # may be sent again

    def __post_init__(self) -> None:
        check_identifier(self.name)
        names = [argument.name for argument in self.arguments]
        if len(set(names)) != len(names):
            raise ValueError(f"two arguments of one name in {self}")
        kinds = [argument.keyword_only for argument in self.arguments]
        if kinds != sorted(kinds):
            raise ValueError(f"a keyword-only argument before a positional one in {self}")

    @property
    def types(self) -> tuple[Type, ...]:
        return (*(argument.type for argument in self.arguments), self.returns)

    @property
    def takes_tensors(self) -> bool:
        return holds_tensors(argument.type for argument in self.arguments)

    @property
    def returns_tensors(self) -> bool:
        return holds_tensors([self.returns])

    @property
    def carries_gradients(self) -> bool:
        """Says whether gradients can flow through a call: from a tensor in its result to one in its arguments."""
        return not self.detached and self.returns_tensors and self.takes_tensors

    @functools.cached_property
    def many(self) -> Method:
        """The method that makes many calls of this one in one message. Stubs have it; the interface does not."""
        call = TupleType(tuple(argument.type for argument in self.arguments))
        arguments, returns = (Argument("calls", ListType(call)),), ListType(self.returns)
        return Method(f"{self.name}_many", arguments, returns, each=self, detached=self.detached)

    def __reduce__(self) -> tuple[type[Method], tuple[Any, ...]]:
        # Not its `many`, which anybody can make.
        marks = self.detached, self.idempotent
        return Method, (self.name, self.arguments, self.returns, self.batched, self.each, *marks)

    @property
    def declaration(self) -> str:
        arguments = [argument.declaration for argument in self.arguments]
        positional = sum(not argument.keyword_only for argument in self.arguments)
        if positional < len(arguments):
            arguments.insert(positional, "*")
        mark = "" if self.batched is None else f"@batched({self.batched}) "
        mark = f"@idempotent {mark}" if self.idempotent else mark
        return f"{mark}{self._written(arguments)}"

    def _written(self, arguments: list[str]) -> str:
        mark = "@detached " if self.detached else ""
        return f"{mark}{self.name}({', '.join(arguments)}) -> {self.returns}"

    def __str__(self) -> str:
        return self._written([str(argument) for argument in self.arguments])


@dataclass(frozen=True)
class Interface:
    qualified_name: str  # the class's module and name, as TorchScript spells them; only the last part is sent
    methods: tuple[Method, ...]  # sorted by name

    def __post_init__(self) -> None:
        check_identifier(self.name)
        names = [method.name for method in self.methods]
        if not names:
            raise ValueError(f"{self.name} has no methods")
        if names != sorted(set(names)):
            raise ValueError(f"the methods of {self.name} are not sorted, or two have one name: {names}")
        paths = [named.name for named in self.named_types]
        if len(set(paths)) != len(paths):
            raise ValueError(f"two types of one name in {self.name}: {paths}")

    @property
    def name(self) -> str:
        return self.qualified_name.rpartition(".")[2]

    @functools.cached_property
    def named_types(self) -> tuple[NamedType, ...]:
        """Every enum and NamedTuple in the interface, each after those that it refers to."""
        return tuple(named_types(type for method in self.methods for type in method.types))

    @functools.cached_property
    def text(self) -> str:
        """The canonical text: see Note [Canonical text]."""
        return "\n".join([*(named.definition for named in self.named_types), *map(str, self.methods)])

    @functools.cached_property
    def declaration(self) -> str:
        """The canonical text with what is the caller's own: defaults, keyword-only arguments, marks of methods."""
        definitions = [named.definition for named in self.named_types]
        return "\n".join([*definitions, *(method.declaration for method in self.methods)])

    @functools.cached_property
    def digest(self) -> str:
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()

    @functools.cached_property
    def messages(self) -> tuple[Method, ...]:
        """The messages that cross: each method, and its `many`."""
        return tuple(message for method in self.methods for message in (method, method.many))

    def __reduce__(self) -> tuple[type[Interface], tuple[str, tuple[Method, ...]]]:
        return Interface, (self.qualified_name, self.methods)  # not what is cached

    def method(self, name: str) -> Method | None:
        return next((method for method in self.methods if method.name == name), None)
