"""The program to be emitted: expressions, statements, definitions. A value: nothing here prints or runs.

Types are kept as the text that TorchScript reads, since nothing looks into them after planning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Union

from ..read.literals import Value
from ..read.model import REQUIRED, Required
from ..runtime import Definition as Prewritten

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
    index: int


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
class Concatenation:
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Empty:
    """`[]` or `{}`; which of them, and of what type, the assignment says."""

    brackets: str


@dataclass(frozen=True)
class Literal:
    value: Value


@dataclass(frozen=True)
class Equal:
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Not:
    value: Expression


@dataclass(frozen=True)
class IsPresent:
    """`name is not None`; a bare name, because TorchScript refines nothing else."""

    name: str


@dataclass(frozen=True)
class IsInstance:
    """`isinstance(name, types)`, or its contrary."""

    name: str
    types: tuple[str, ...]
    negated: bool = False


Expression = Union[
    Name, Attribute, Item, Call, TupleOf, ListOf, Concatenation, Empty, Literal, Equal, Not, IsPresent, IsInstance
]

FORK: Final = Attribute(Attribute(Name("torch"), "jit"), "fork")
"""Starts a task of TorchScript's own, which holds no thread while it waits."""

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
class WithoutGradients:
    """`with torch.no_grad():`"""

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


Statement = Union[Assign, AssignAttribute, AssignItem, Do, For, If, WithoutGradients, Raise, Return, Pass]

# -- definitions


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str | None = None  # None for self
    default: Value | Required = REQUIRED
    keyword_only: bool = False


@dataclass(frozen=True)
class Function:
    """A function, or a method where it stands in a class.

    `endpoint`: the function's first parameter is the owner's table, which scripting turns into a constant of the
    graph; what is left is registered with TorchScript under `endpoint`, the name that calls over RPC carry.

    `scripted`: False for one that stays a Python function, to become a method of somebody's module; TorchScript
    compiles it when it compiles that.
    """

    name: str
    parameters: tuple[Parameter, ...]
    returns: str | None
    body: tuple[Statement, ...]
    endpoint: str | None = None
    scripted: bool = True


@dataclass(frozen=True)
class Interface:
    """A TorchScript interface, of modules or of classes. `qualified_name`: what TorchScript is to know it by."""

    name: str
    qualified_name: str
    methods: tuple[Function, ...]
    of_modules: bool


@dataclass(frozen=True)
class Class:
    """A class that TorchScript compiles."""

    name: str
    methods: tuple[Function, ...]


@dataclass(frozen=True)
class Module:
    """A torch.nn.Module, scripted once as `name()`. `fields`: the names and types of its attributes."""

    name: str
    methods: tuple[Function, ...]
    fields: tuple[tuple[str, str], ...] = ()


Definition = Union[Function, Interface, Class, Module, Prewritten]


@dataclass(frozen=True)
class Unit:
    """One piece of generated source: what is in one namespace, in the order in which it is scripted."""

    scope: str  # the dotted name under which TorchScript knows its definitions
    title: str  # what it is called in tracebacks
    comment: str
    definitions: tuple[Definition, ...]

    @property
    def part(self) -> str:
        """The last of the scope's names: which of an interface's units this is."""
        return self.scope.rpartition(".")[2]
