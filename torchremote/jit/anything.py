"""Values of type Any: what TorchScript can look into, and how it does.

TorchScript asks a value whether it is of a type that the source names, so what it can find in a value of type Any is a
list of types, `HELD`, and tuples, lists and dicts of Any, down to `DEPTH`. A value that is none of these is refused,
since a tensor in it would be overlooked: not moved, and not checked.

Note [Walking down]
    A TorchScript function cannot call itself, and calls to functions are copied into their callers. So a walk down is a
    chain of objects behind an interface, a `Nest` a level, and a `Leaf` at its end.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

from . import ir
from .check import Checker
from .convert import Converter, Direction
from .plan import KEEP, Plan, plan_type
from .spell import Spelling
from .types import ANY, NONE, SCALARS, TENSOR, DictType, ListType, OptionalType, ScalarType, TupleType, Type

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
_CHECK: Final = (
    ir.Parameter("value", "Any"),
    ir.Parameter("devices", "Optional[List[torch.device]]"),
    ir.Parameter("where", "str"),
)
_SELF: Final = ir.Parameter("self")
_AGAIN: Final = ir.Attribute(ir.Name("self"), "again")
_AGAIN_MOVE, _AGAIN_CHECK = ir.Attribute(_AGAIN, "move"), ir.Attribute(_AGAIN, "check")
_DONE: Final = ir.Return(ir.Literal(None))
REFUSAL: Final = (
    "what is in a value of type Any is a tensor, a scalar, or a tuple, list or dict of these that TorchScript can look "
    "into (the README's table of types says which); declare the value's own type"
)


def lower_anything(scope: str, spelling: Spelling) -> tuple[ir.Definition, ...]:
    """The functions `move_any` and `check_any`, and what they need."""
    walking = tuple(
        ir.Function(name, (_SELF, *parameters), returns, (ir.Pass(),))
        for name, parameters, returns in (("move", _MOVE, "Any"), ("check", _CHECK, "None"))
    )
    walk = "Leaf()"
    for _ in range(DEPTH):
        walk = f"Nest({walk})"
    return (
        ir.Interface("Walking", f"{scope}.Walking", walking, of_modules=False),
        ir.Class("Leaf", (_init(), _move_leaf(spelling), _check_leaf(spelling))),
        ir.Class("Nest", (_init("again"), _move_nest(), _check_nest())),
        ir.Given(
            "move_any",
            ir.Function,
            f"def move_any(value: Any, device: torch.device) -> Any:\n    return {walk}.move(value, device)",
        ),
        ir.Given(
            "check_any",
            ir.Function,
            "def check_any(value: Any, devices: Optional[List[torch.device]], where: str) -> None:\n"
            f"    {walk}.check(value, devices, where)",
        ),
    )


def _init(*walks: str) -> ir.Function:
    fields = tuple(ir.AssignAttribute(ir.Name("self"), walk, ir.Name(walk), "Walking") for walk in walks)
    parameters = tuple(ir.Parameter(walk, "Walking") for walk in walks)
    return ir.Function("__init__", (_SELF, *parameters), None, fields or (ir.Pass(),))


# -- what is held directly


def _plan(held: Type) -> Plan:
    return plan_type(held, moves=True, translates=False)


_WITH_TENSORS: Final = tuple(held for held in HELD if _plan(held) != KEEP)


def _move_leaf(spelling: Spelling) -> ir.Function:
    def to_device(tensor: ir.Expression) -> ir.Expression:
        return ir.Call(ir.Attribute(tensor, "to"), (_DEVICE,))

    converter = Converter(spelling.names(["self", "value", "device"]), spelling, Direction.UNPACK, to_device)
    body: list[ir.Statement] = []
    for held in _WITH_TENSORS:
        found: list[ir.Statement] = []
        moved = converter.convert(_VALUE, held, _plan(held), "value", found)
        body.append(_if(spelling.declared(held), *found, ir.Return(moved)))
    return ir.Function("move", (_SELF, *_MOVE), "Any", (*body, ir.Return(_VALUE)))


def _check_leaf(spelling: Spelling) -> ir.Function:
    checker = Checker(spelling.names(["self", "value", "devices", "where"]), _DEVICES)
    body: list[ir.Statement] = []
    for held in _WITH_TENSORS:
        found: list[ir.Statement] = []
        checker.check(_VALUE, held, _plan(held), "value", _WHERE, found)
        body.append(_if(spelling.declared(held), *found, _DONE))
    others = tuple(spelling.declared(held) for held in HELD if held not in _WITH_TENSORS)
    beginning = ir.Concatenation(ir.Literal("torchremote: cannot send "), _WHERE)
    refusal = ir.Raise(ir.Concatenation(beginning, ir.Literal(f": {REFUSAL}")))
    body.append(ir.If(ir.IsInstance("value", others, negated=True), (refusal,)))
    return ir.Function("check", (_SELF, *_CHECK), "None", tuple(body))


# -- what is held in tuples, and in lists and dicts of Any


def _move_nest() -> ir.Function:
    def move(value: ir.Expression) -> ir.Expression:
        return ir.Call(_AGAIN_MOVE, (value, _DEVICE))

    body: list[ir.Statement] = []
    for count in range(1, WIDTH + 1):
        items = tuple(move(ir.Item(_VALUE, index)) for index in range(count))
        body.append(_if(str(TupleType((ANY,) * count)), ir.Return(ir.TupleOf(items))))
    item = ir.Name("item")
    append = ir.Do(ir.Call(ir.Attribute(ir.Name("items"), "append"), (move(item),)))
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
        store = ir.AssignItem(entries, ir.Name(f"{key}_key"), move(item))
        body.append(
            _if(
                type,
                ir.Assign((entries.id,), ir.Empty("{}"), type),
                ir.For((f"{key}_key", "item"), ir.Call(ir.Attribute(_VALUE, "items")), (store,)),
                ir.Return(entries),
            )
        )
    return ir.Function("move", (_SELF, *_MOVE), "Any", (*body, ir.Return(move(_VALUE))))


def _check_nest() -> ir.Function:
    def check(value: ir.Expression) -> ir.Statement:
        return ir.Do(ir.Call(_AGAIN_CHECK, (value, _DEVICES, _WHERE)))

    body: list[ir.Statement] = [_if("Tuple[()]", _DONE)]
    for count in range(1, WIDTH + 1):
        items = tuple(check(ir.Item(_VALUE, index)) for index in range(count))
        body.append(_if(str(TupleType((ANY,) * count)), *items, _DONE))
    each = (check(ir.Name("item")),)
    body.append(_if("List[Any]", ir.For(("item",), _VALUE, each), _DONE))
    for key in _KEYS:
        values = ir.Call(ir.Attribute(_VALUE, "values"))
        body.append(_if(str(DictType(key, ANY)), ir.For(("item",), values, each), _DONE))
    return ir.Function("check", (_SELF, *_CHECK), "None", (*body, check(_VALUE)))


def _if(type: str, *body: ir.Statement) -> ir.Statement:
    return ir.If(ir.IsInstance("value", (type,)), body)
