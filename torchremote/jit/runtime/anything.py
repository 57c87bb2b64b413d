"""Values of type Any: what TorchScript can look into, and how it does.

TorchScript asks a value whether it is of a type that the source names, so what it can find in a value of type Any is a
list of types, `HELD`, and tuples, lists and dicts of Any, down to `DEPTH`. A value that is none of these is refused,
since a tensor in it would be overlooked: not moved, and not checked.

Note [Walking down]
    A TorchScript function cannot call itself, and calls to functions are copied into their callers. So a walk down is a
    chain of objects behind an interface, a `Nest` a level, and a `Leaf` at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final

from ..lower import ir
from ..lower.convert import Converter, Direction
from ..lower.plan import KEEP, Plan, plan_type
from ..lower.spell import Spelling
from ..read.types import ANY, NONE, SCALARS, TENSOR, DictType, ListType, OptionalType, ScalarType, TupleType, Type

DEPTH: Final = 4
"""Levels of tuples, and of lists and dicts of Any, in a value of type Any."""
WIDTH: Final = 8
"""Items of a tuple in a value of type Any."""
_KEYS: Final = (ScalarType("str"), ScalarType("int"))


def _containers(items: tuple[Type, ...]) -> tuple[Type, ...]:
    found: list[Type] = []
    for item in items:
        found += [ListType(item), *(DictType(key, item) for key in _KEYS)]
    return tuple(found)


def _held(item: Type) -> tuple[Type, ...]:
    once: tuple[Type, ...] = (*_containers((item,)), ListType(OptionalType(item)))
    return (item, *once, *_containers(once))


_PLAIN: Final = tuple(ScalarType(name) for name in SCALARS if name not in ("None", "dtype"))  # a dtype is an int
HELD: Final[tuple[Type, ...]] = (NONE, ListType(NONE), *_held(TENSOR), *chain.from_iterable(map(_held, _PLAIN)))
"""What a value of type Any may be: a tensor, a scalar, a list or dict of these, or a list or dict of such."""

_VALUE, _DEVICE, _DEVICES, _WHERE = (ir.Name(name) for name in ("value", "device", "devices", "where"))
_MOVE: Final = (ir.Parameter("value", "Any"), ir.Parameter("device", "torch.device"))
_SEND: Final = (
    ir.Parameter("value", "Any"),
    ir.Parameter("devices", "Optional[List[torch.device]]"),
    ir.Parameter("where", "str"),
)
_SELF: Final = ir.Parameter("self")
REFUSAL: Final = (
    "what is in a value of type Any is a tensor, a scalar, or a tuple, list or dict of these that TorchScript can look "
    "into (the README's table of types says which); declare the value's own type"
)


def lower_anything(scope: str, spelling: Spelling) -> tuple[ir.Definition, ...]:
    """The functions `move_any` and `sendable_any`, and what they need."""
    walking = tuple(
        ir.Function(name, (_SELF, *parameters), "Any", (ir.Pass(),))
        for name, parameters in (("move", _MOVE), ("send", _SEND))
    )
    walk = "Leaf()"
    for _ in range(DEPTH):
        walk = f"Nest({walk})"
    return (
        ir.Interface("Walking", f"{scope}.Walking", walking, of_modules=False),
        ir.Class("Leaf", (_init(), _move_leaf(spelling), _send_leaf(spelling))),
        ir.Class("Nest", (_init("again"), _nest("move", _MOVE), _nest("send", _SEND))),
        ir.Given(
            "move_any",
            ir.Function,
            f"def move_any(value: Any, device: torch.device) -> Any:\n    return {walk}.move(value, device)",
        ),
        ir.Given(
            "sendable_any",
            ir.Function,
            "def sendable_any(value: Any, devices: Optional[List[torch.device]], where: str) -> Any:\n"
            f"    return {walk}.send(value, devices, where)",
        ),
    )


def _init(*walks: str) -> ir.Function:
    fields = tuple(ir.AssignAttribute(ir.Name("self"), walk, ir.Name(walk), "Walking") for walk in walks)
    parameters = tuple(ir.Parameter(walk, "Walking") for walk in walks)
    return ir.Function("__init__", (_SELF, *parameters), None, fields or (ir.Pass(),))


# -- what is held directly


def _plan(held: Type) -> Plan:
    return plan_type(held, tensors=True, translates=False)


_WITH_TENSORS: Final = tuple(held for held in HELD if _plan(held) != KEEP)


def _move_leaf(spelling: Spelling) -> ir.Function:
    def move(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Attribute(tensor, "to"), (_DEVICE,))

    return ir.Function("move", (_SELF, *_MOVE), "Any", (*_each(spelling, _MOVE, move), ir.Return(_VALUE)))


def _send_leaf(spelling: Spelling) -> ir.Function:
    def send(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Name("sendable"), (tensor, _DEVICES, _WHERE))

    others = tuple(spelling.declared(held) for held in HELD if held not in _WITH_TENSORS)
    beginning = ir.Concatenation(ir.Literal("torchremote: cannot send "), _WHERE)
    refusal = ir.Raise(ir.Concatenation(beginning, ir.Literal(f": {REFUSAL}")))
    body = (*_each(spelling, _SEND, send), ir.If(ir.IsInstance("value", others, negated=True), (refusal,)))
    return ir.Function("send", (_SELF, *_SEND), "Any", (*body, ir.Return(_VALUE)))


def _each(
    spelling: Spelling, parameters: tuple[ir.Parameter, ...], transfer: Callable[[ir.Expression], ir.Expression]
) -> list[ir.Statement]:
    """For every type with tensors: if the value is of it, the value is returned with its tensors transferred."""
    names = spelling.names(["self", *(parameter.name for parameter in parameters)])
    converter = Converter(names, spelling, Direction.UNPACK, transfer)
    body: list[ir.Statement] = []
    for held in _WITH_TENSORS:
        found: list[ir.Statement] = []
        transferred = converter.convert(_VALUE, held, _plan(held), "value", found)
        body.append(_if(spelling.declared(held), *found, ir.Return(transferred)))
    return body


# -- what is held in tuples, and in lists and dicts of Any


def _nest(name: str, parameters: tuple[ir.Parameter, ...]) -> ir.Function:
    more = tuple(ir.Name(parameter.name) for parameter in parameters[1:])

    def again(value: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Attribute(ir.Attribute(ir.Name("self"), "again"), name), (value, *more))

    body: list[ir.Statement] = [_if("Tuple[()]", ir.Return(_VALUE))]
    for count in range(1, WIDTH + 1):
        items = tuple(again(ir.Item(_VALUE, index)) for index in range(count))
        body.append(_if(str(TupleType((ANY,) * count)), ir.Return(ir.TupleOf(items))))
    item = ir.Name("item")
    append = ir.Do(ir.Call(ir.Attribute(ir.Name("items"), "append"), (again(item),)))
    body.append(
        _if(
            "List[Any]",
            ir.Assign(("items",), ir.Empty("[]"), "List[Any]"),
            ir.For(("item",), _VALUE, (append,)),
            ir.Return(ir.Name("items")),
        )
    )
    for key in _KEYS:
        type, entries = str(DictType(key, ANY)), ir.Name(f"{key}_entries")
        store = ir.AssignItem(entries, ir.Name(f"{key}_key"), again(item))
        body.append(
            _if(
                type,
                ir.Assign((entries.id,), ir.Empty("{}"), type),
                ir.For((f"{key}_key", "item"), ir.Call(ir.Attribute(_VALUE, "items")), (store,)),
                ir.Return(entries),
            )
        )
    return ir.Function(name, (_SELF, *parameters), "Any", (*body, ir.Return(again(_VALUE))))


def _if(type: str, *body: ir.Statement) -> ir.Statement:
    return ir.If(ir.IsInstance("value", (type,)), body)
