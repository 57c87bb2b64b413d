"""Lowers a plan to statements. They pack or unpack a value, and move or check its tensors.

Note [Typed accumulation]
    A TorchScript variable has one type, and a tuple's type consists of the types of its items. So a tuple is rebuilt
    from `Tuple[()]`. Each step adds one item and has a new name, so every step has its exact type::

        out_0: Tuple[()] = ()
        out_1 = out_0 + (result[0].cpu(),)
        out_2 = out_1 + (result[1],)

    For lists, dicts and optionals, the variable that collects the result declares its type. A member of a Union is put
    into a list of that Union and taken out again. The reason: TorchScript has two types for a Union that may be None.
    A variable that branches assign gets one of them, lists have the other, and their mix fails in TorchScript's
    optimiser. An item that is taken out of a list has the list's type.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from ..read.types import DictType, EnumType, ListType, NamedTupleType, OptionalType, TupleType, Type, UnionType
from . import ir
from .names import Names
from .plan import (
    Keep,
    Move,
    MoveAny,
    Plan,
    TranslateEnum,
    WalkDict,
    WalkList,
    WalkOptional,
    WalkTuple,
    WalkUnion,
    plan_arrival,
    wire_type,
)
from .source_names import SourceNames


class Direction(enum.Enum):
    """The direction of a conversion: see plan.py, Note [Wire types]."""

    PACK = "pack"  # from the declared type to the wire type
    UNPACK = "unpack"  # from the wire type to the declared type; also for a value that keeps its type


OnTensor = Callable[[ir.Expression], ir.Expression]


class Converter:
    """Converts values within one function.

    Args:
        names: the function's scope.
        move: makes the expression that moves or checks one tensor.
        move_any: makes the expression that does so for one value of type Any.
    """

    def __init__(
        self,
        names: Names,
        source_names: SourceNames,
        direction: Direction,
        move: OnTensor | None = None,
        move_any: OnTensor | None = None,
    ) -> None:
        self._names = names
        self._source_names = source_names
        self._packs = direction is Direction.PACK
        self._target = source_names.wire if self._packs else source_names.declared
        self._move = move
        self._move_any = move_any

    def convert(
        self, value: ir.Expression, kind: Type, plan: Plan, stem: str, into: list[ir.Statement]
    ) -> ir.Expression:
        """Returns the expression for the converted value. Adds the statements that it needs to `into`.

        Args:
            value: the value before.
            kind: its declared type.
            stem: the beginning of the names of local variables.
        """
        match plan, kind:
            case Keep(), _:
                return value
            case Move(), _ if self._move is not None:
                return self._move(value)
            case MoveAny(), _ if self._move_any is not None:
                return self._move_any(value)
            case TranslateEnum(), EnumType():
                function = self._source_names.pack if self._packs else self._source_names.unpack
                return ir.call(function[kind], value)
            case WalkTuple(plans), TupleType() | NamedTupleType():
                return self._convert_tuple(self._named(value, stem, into), kind, plans, stem, into)
            case WalkUnion(plans), UnionType():
                convert = self._pack_union if self._packs else self._unpack_union
                return convert(self._named(value, stem, into), kind, plans, stem, into)
            case WalkOptional(WalkUnion(plans)), OptionalType(UnionType()) if not self._packs:
                return self._unpack_optional_union(self._named(value, stem, into), kind, plans, stem, into)
            case WalkOptional(item), OptionalType(item_type):
                return self._convert_optional(self._named(value, stem, into), kind, item_type, item, stem, into)
            case WalkList(item), ListType(item_type):
                collected, element = self._fresh_list(item_type, stem, into), self._names.numbered(stem)
                body: list[ir.Statement] = []
                body.append(ir.append(collected, self.convert(ir.Name(element), item_type, item, stem, body)))
                into.append(ir.For((element,), value, tuple(body)))
                return collected
            case WalkDict(key_plan, value_plan), DictType(key_type, value_type):
                done = self._names.numbered(stem)
                key, element = self._names.fresh("key"), self._names.numbered(stem)
                into.append(ir.Assign((done,), ir.Empty("{}"), self._target(kind)))
                body = []
                stored_key = self.convert(ir.Name(key), key_type, key_plan, stem, body)
                stored = self.convert(ir.Name(element), value_type, value_plan, stem, body)
                body.append(ir.AssignItem(ir.Name(done), stored_key, stored))
                into.append(ir.For((key, element), ir.called(value, "items"), tuple(body)))
                return ir.Name(done)
        raise AssertionError(f"no walk {plan} through {kind}")

    def _convert_tuple(
        self,
        value: ir.Name,
        kind: TupleType | NamedTupleType,
        plans: tuple[Plan, ...],
        stem: str,
        into: list[ir.Statement],
    ) -> ir.Expression:
        """Converts a tuple or NamedTuple: see Note [Typed accumulation]."""
        if isinstance(kind, NamedTupleType) and not self._packs:
            items = [
                self.convert(ir.Item(value, index), item, plan, stem, into)
                for index, (item, plan) in enumerate(zip(kind.items, plans, strict=True))
            ]
            return ir.call(self._source_names.classes[kind], *items)
        done = ir.Name(self._names.numbered(stem))
        into.append(ir.assign(done, ir.TupleOf(), "Tuple[()]"))
        for index, (item_type, plan) in enumerate(zip(kind.items, plans, strict=True)):
            item = self.convert(ir.Item(value, index), item_type, plan, stem, into)
            grown = ir.Name(self._names.numbered(stem))
            into.append(ir.assign(grown, ir.Operation("+", done, ir.TupleOf((item,)))))
            done = grown
        return done

    def _convert_optional(
        self, value: ir.Name, kind: Type, item_type: Type, item: Plan, stem: str, into: list[ir.Statement]
    ) -> ir.Name:
        """Converts the value if it is not None."""
        done = self._names.numbered(stem)
        into.append(ir.Assign((done,), ir.Literal(None), self._target(kind)))
        body: list[ir.Statement] = []
        present = self.convert(value, item_type, item, stem, body)
        body.append(ir.Assign((done,), present))
        into.append(ir.If(ir.is_present(value), tuple(body)))
        return ir.Name(done)

    def _pack_union(
        self, value: ir.Name, kind: UnionType, plans: tuple[Plan, ...], stem: str, into: list[ir.Statement]
    ) -> ir.Expression:
        """Packs a Union: a tuple with a place for each member."""
        places = []
        for item, plan in zip(kind.items, plans, strict=True):
            place = self._names.numbered(stem)
            into.append(ir.Assign((place,), ir.Literal(None), self._target(OptionalType(item))))
            # Each `if` tests its own name, because TorchScript may have another type for the name after an `if`.
            candidate = ir.Name(self._names.numbered(stem))
            into.append(ir.assign(candidate, value))
            body: list[ir.Statement] = []
            packed = self.convert(candidate, item, plan, stem, body)
            body.append(ir.Assign((place,), packed))
            into.append(ir.If(ir.IsInstance(candidate.id, self._source_names.declared(item)), tuple(body)))
            places.append(ir.Name(place))
        return ir.TupleOf(tuple(places))

    def _unpack_union(
        self, value: ir.Name, kind: UnionType, plans: tuple[Plan, ...], stem: str, into: list[ir.Statement]
    ) -> ir.Expression:
        """Unpacks a Union that is never None."""
        found = self._fresh_list(kind, stem, into)
        self._unpack_members(value, kind, plans, stem, found, into)
        return ir.Item(found, 0)

    def _unpack_optional_union(
        self, value: ir.Name, kind: OptionalType, plans: tuple[Plan, ...], stem: str, into: list[ir.Statement]
    ) -> ir.Expression:
        """Unpacks a Union that may be None."""
        found = self._fresh_list(kind, stem, into)
        body: list[ir.Statement] = []
        assert isinstance(kind.item, UnionType)
        self._unpack_members(value, kind.item, plans, stem, found, body)
        into.append(ir.If(ir.is_present(value), tuple(body)))
        count = ir.length(found)
        into.append(ir.If(ir.Operation("==", count, ir.Literal(0)), (ir.append(found, ir.Literal(None)),)))
        return ir.Item(found, 0)

    def _unpack_members(
        self,
        value: ir.Name,
        kind: UnionType,
        plans: tuple[Plan, ...],
        stem: str,
        found: ir.Name,
        into: list[ir.Statement],
    ) -> None:
        """Adds the member that is not None to the list `found`."""
        for index, (item, plan) in enumerate(zip(kind.items, plans, strict=True)):
            place = self._names.numbered(stem)
            into.append(ir.Assign((place,), ir.Item(value, index)))
            body: list[ir.Statement] = []
            unpacked = self.convert(ir.Name(place), item, plan, stem, body)
            body.append(ir.append(found, unpacked))
            into.append(ir.If(ir.is_present(ir.Name(place)), tuple(body)))

    def _fresh_list(self, kind: Type, stem: str, into: list[ir.Statement]) -> ir.Name:
        """Assigns an empty list of `kind` to a new variable."""
        name = ir.Name(self._names.numbered(stem))
        into.append(ir.new_list(name, self._target(ListType(kind))))
        return name

    def _named(self, value: ir.Expression, stem: str, into: list[ir.Statement]) -> ir.Name:
        """Returns the value as a variable, and assigns it to a new one if it is none."""
        # A name is evaluated once, and TorchScript refines an Optional only if it is a name.
        if isinstance(value, ir.Name):
            return value
        name = ir.Name(self._names.numbered(stem))
        into.append(ir.assign(name, value))
        return name


def restoring(names: Names, source_names: SourceNames) -> Converter:
    """Returns a converter that unpacks values, and restores their tensors: see runtime/message.py."""
    return Converter(
        names,
        source_names,
        Direction.UNPACK,
        lambda tensor: ir.call("restored", tensor),
        lambda value: ir.call("restored_any", value),
    )


def walk_tensors(
    value: ir.Expression,
    kind: Type,
    on_tensor: OnTensor,
    names: Names,
    source_names: SourceNames,
    on_any: OnTensor | None = None,
) -> tuple[list[ir.Statement], ir.Name]:
    """Walks through a packed value. Returns the statements, and the variable of the value with its new tensors."""
    body: list[ir.Statement] = []
    done = ir.Name(names.numbered("out"))
    walk = Converter(names, source_names, Direction.UNPACK, on_tensor, on_any)
    changed = walk.convert(value, wire_type(kind), plan_arrival(kind), "part", body)
    return [*body, ir.assign(done, changed)], done  # assigned, so that tensors are taken in their order


def next_of(tensors: ir.Name) -> OnTensor:
    """Returns what puts the next of `tensors` in the place of a tensor."""
    return lambda _: ir.called(tensors, "pop", ir.Literal(0))
