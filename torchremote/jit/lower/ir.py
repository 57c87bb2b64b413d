"""Defines the program that is emitted: expressions, statements and definitions, as values. Nothing here prints or runs.

A type is the text that TorchScript reads, because nothing looks into types after planning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Union

from ..read.literals import Value
from ..read.model import REQUIRED, Required
from ..runtime import Definition as Prewritten
from .names import Names

# -- expressions


@dataclass(frozen=True)
class Name:
    id: str


@dataclass(frozen=True)
class Attribute:
    value: Expression
    name: str


@dataclass(frozen=True)
class Item:
    value: Expression
    index: int | Expression


@dataclass(frozen=True)
class Call:
    function: Expression
    arguments: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class TupleOf:
    items: tuple[Expression, ...] = ()


@dataclass(frozen=True)
class ListOf:
    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Empty:
    """`[]` or `{}`. The assignment declares its type."""

    brackets: str


@dataclass(frozen=True)
class Literal:
    value: Value


@dataclass(frozen=True)
class Keyword:
    """An argument of a call that is passed by its name."""

    name: str
    value: Expression


@dataclass(frozen=True)
class Operation:
    """An operator between two values, or before one: then `left` is None."""

    sign: str
    left: Expression | None
    right: Expression


@dataclass(frozen=True)
class IsInstance:
    """`isinstance(name, kind)`."""

    name: str
    kind: str


Expression = Union[
    Name,
    Attribute,
    Item,
    Call,
    Keyword,
    TupleOf,
    ListOf,
    Empty,
    Literal,
    Operation,
    IsInstance,
]

FORK: Final = Attribute(Attribute(Name("torch"), "jit"), "fork")
"""Starts a task of TorchScript's own, which holds no thread while it waits."""


def native(operator: str) -> Expression:
    """Names an operator of the native part."""
    return operator_of("torchremote_native", operator)


def operator_of(library: str, operator: str) -> Expression:
    return Attribute(Attribute(Attribute(Name("torch"), "ops"), library), operator)


# -- statements


@dataclass(frozen=True)
class Assign:
    targets: tuple[str, ...]
    value: Expression
    type: str | None = None


@dataclass(frozen=True)
class AssignAttribute:
    value: Expression
    attribute: str
    to: Expression
    type: str | None = None


@dataclass(frozen=True)
class AssignItem:
    value: Expression
    key: Expression
    to: Expression


@dataclass(frozen=True)
class Do:
    value: Expression


@dataclass(frozen=True)
class For:
    targets: tuple[str, ...]
    iterable: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class If:
    test: Expression
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class While:
    test: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class With:
    """`with context:`"""

    context: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Raise:
    message: Expression


@dataclass(frozen=True)
class Return:
    value: Expression


@dataclass(frozen=True)
class Pass:
    pass


@dataclass(frozen=True)
class Comment:
    text: str


Statement = Union[
    Assign,
    AssignAttribute,
    AssignItem,
    Do,
    For,
    If,
    While,
    With,
    Raise,
    Return,
    Pass,
    Comment,
]

# -- definitions


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str | None = None  # None for self
    default: Value | Required = REQUIRED
    keyword_only: bool = False


@dataclass(frozen=True)
class Function:
    """A function, or a method of a class.

    `bound`: its first parameter is the owner's table. Scripting makes it a constant of the graph, and registers the
    function in its unit's scope, under its own name, which calls over RPC carry.

    `placed`: tracebacks say where in the text it stands. TorchScript's frontend reads it, which takes longer.

    `scripted`: False for a function that stays a Python function and becomes a method of a user's module. TorchScript
    compiles it together with that module.
    """

    name: str
    parameters: tuple[Parameter, ...]
    returns: str | None
    body: tuple[Statement, ...]
    bound: bool = False
    scripted: bool = True
    placed: bool = False


@dataclass(frozen=True)
class Interface:
    """A TorchScript interface, of modules or of classes.

    `qualified_name`: the name that TorchScript gets for it, if not its own in its unit's scope.
    """

    name: str
    methods: tuple[Function, ...]
    of_modules: bool
    qualified_name: str | None = None


@dataclass(frozen=True)
class Class:
    """A class that TorchScript compiles."""

    name: str
    methods: tuple[Function, ...]


@dataclass(frozen=True)
class Module:
    """A torch.nn.Module. Scripting makes one instance, `name()`. `fields`: the names and types of its attributes."""

    name: str
    methods: tuple[Function, ...]
    fields: tuple[tuple[str, str], ...] = ()


Definition = Union[Function, Interface, Class, Module, Prewritten]


@dataclass(frozen=True)
class Unit:
    """One piece of generated source: the definitions of one namespace, in the order in which they are scripted."""

    scope: str  # the dotted name under which TorchScript knows its definitions
    title: str  # its file name in tracebacks
    comment: str
    definitions: tuple[Definition, ...]

    @property
    def part(self) -> str:
        """Returns the last part of the scope. It says which of an interface's units this is."""
        return self.scope.rpartition(".")[2]


# -- expressions and statements that many make


def call(function: str, *arguments: Expression) -> Call:
    """Returns the call of a function that the unit knows by its name."""
    return Call(Name(function), arguments)


def called(value: Expression, name: str, *arguments: Expression) -> Call:
    """Returns the call of a method of `value`."""
    return Call(Attribute(value, name), arguments)


def assign(target: Name, value: Expression, kind: str | None = None) -> Assign:
    return Assign((target.id,), value, kind)


def new_list(target: Name, kind: str) -> Assign:
    return assign(target, Empty("[]"), kind)


def append(values: Expression, value: Expression) -> Statement:
    return Do(called(values, "append", value))


def is_present(value: Name) -> Operation:
    """Returns the test that a variable is not None. TorchScript refines nothing else."""
    return Operation("is not", value, Literal(None))


def negated(value: Expression) -> Operation:
    return Operation("not", None, value)


def without_gradients(*body: Statement) -> With:
    return With(called(Name("torch"), "no_grad"), body)


def annotated(kind: str, value: Expression) -> Call:
    """Returns a value whose type TorchScript is told."""
    return called(Attribute(Name("torch"), "jit"), "annotate", Name(kind), value)


def length(values: Expression) -> Expression:
    return call("len", values)


def variables(names: Names, *wanted: str) -> list[Name]:
    """Returns new variables of a scope, under names that are free in it."""
    return [Name(names.fresh(name)) for name in wanted]


def named(parameters: Iterable[Parameter]) -> tuple[Name, ...]:
    return tuple(Name(parameter.name) for parameter in parameters)


def typed(variables: Iterable[Name], kinds: Mapping[str, str]) -> tuple[Parameter, ...]:
    """Returns the parameters that these variables are. `kinds`: their types, by other names, in the same order."""
    return tuple(Parameter(name.id, kind) for name, kind in zip(variables, kinds.values(), strict=True))
