"""A plan -> the statements that carry a value across: they pack or unpack it, and move or check its tensors.

Note [Typed accumulation]
    A TorchScript variable has one type, and a tuple's type is the types of its items. A tuple is therefore rebuilt
    from `Tuple[()]`, one item and one new name a step, so that every step has its exact type::

        out_0: Tuple[()] = ()
        out_1 = out_0 + (result[0].cpu(),)
        out_2 = out_1 + (result[1],)

    Lists, dicts and optionals declare the type of what they collect in. A Union's member is put into a list of that
    Union and taken out again: TorchScript has two types for a Union that may be None, joining branches makes the one
    where a list has the other, and then its own optimiser fails. What comes out of a list has the list's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from ..read.types import DictType, EnumType, ListType, NamedTupleType, OptionalType, TupleType, Type, UnionType
from . import ir
from .names import Names
from .plan import Keep, Move, MoveAny, Plan, TranslateEnum, WalkDict, WalkList, WalkOptional, WalkTuple, WalkUnion
from .source_names import SourceNames


class Direction(enum.Enum):
    """See plan.py, Note [Wire types]."""

    PACK = "pack"  # from the declared type to the wire type
    UNPACK = "unpack"  # and back; also for what stays as it is


OnTensor = Callable[[ir.Expression], ir.Expression]


class Converter:
    """Converts values within one function.

    Args:
        names: the function's scope.
        move: what is done to one tensor.
        move_any: what is done to one value of type Any.
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
        """Returns `value`, of the declared type `kind`, on the other side. Adds statements to `into`.

        Args:
            stem: begins the names of local variables.
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
                return ir.Call(ir.Name(function[kind]), (value,))
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
                body.append(_append(collected, self.convert(ir.Name(element), item_type, item, stem, body)))
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
                into.append(ir.For((key, element), ir.Call(ir.Attribute(value, "items")), tuple(body)))
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
        if isinstance(kind, NamedTupleType) and not self._packs:
            items = [
                self.convert(ir.Item(value, index), item, plan, stem, into)
                for index, (item, plan) in enumerate(zip(kind.items, plans, strict=True))
            ]
            return ir.Call(ir.Name(self._source_names.classes[kind]), tuple(items))
        done = ir.Name(self._names.numbered(stem))
        into.append(ir.Assign((done.id,), ir.TupleOf(), "Tuple[()]"))
        for index, (item_type, plan) in enumerate(zip(kind.items, plans, strict=True)):
            item = self.convert(ir.Item(value, index), item_type, plan, stem, into)
            grown = ir.Name(self._names.numbered(stem))
            into.append(ir.Assign((grown.id,), ir.Concatenation(done, ir.TupleOf((item,)))))
            done = grown
        return done

    def _convert_optional(
        self, value: ir.Name, kind: Type, item_type: Type, item: Plan, stem: str, into: list[ir.Statement]
    ) -> ir.Name:
        done = self._names.numbered(stem)
        into.append(ir.Assign((done,), ir.Literal(None), self._target(kind)))
        body: list[ir.Statement] = []
        present = self.convert(value, item_type, item, stem, body)
        body.append(ir.Assign((done,), present))
        into.append(ir.If(ir.IsPresent(value.id), tuple(body)))
        return ir.Name(done)

    def _pack_union(
        self, value: ir.Name, kind: UnionType, plans: tuple[Plan, ...], stem: str, into: list[ir.Statement]
    ) -> ir.Expression:
        places = []
        for item, plan in zip(kind.items, plans, strict=True):
            place = self._names.numbered(stem)
            into.append(ir.Assign((place,), ir.Literal(None), self._target(OptionalType(item))))
            # Under a name of its own: what TorchScript takes it for after this `if` is not always what it was before.
            candidate = ir.Name(self._names.numbered(stem))
            into.append(ir.Assign((candidate.id,), value))
            body: list[ir.Statement] = []
            packed = self.convert(candidate, item, plan, stem, body)
            body.append(ir.Assign((place,), packed))
            into.append(ir.If(ir.IsInstance(candidate.id, (self._source_names.declared(item),)), tuple(body)))
            places.append(ir.Name(place))
        return ir.TupleOf(tuple(places))

    def _unpack_union(
        self, value: ir.Name, kind: UnionType, plans: tuple[Plan, ...], stem: str, into: list[ir.Statement]
    ) -> ir.Expression:
        found = self._fresh_list(kind, stem, into)
        self._unpack_members(value, kind, plans, stem, found, into)
        return ir.Item(found, 0)

    def _unpack_optional_union(
        self, value: ir.Name, kind: OptionalType, plans: tuple[Plan, ...], stem: str, into: list[ir.Statement]
    ) -> ir.Expression:
        found = self._fresh_list(kind, stem, into)
        body: list[ir.Statement] = []
        assert isinstance(kind.item, UnionType)
        self._unpack_members(value, kind.item, plans, stem, found, body)
        into.append(ir.If(ir.IsPresent(value.id), tuple(body)))
        count = ir.Call(ir.Name("len"), (found,))
        into.append(ir.If(ir.Equal(count, ir.Literal(0)), (_append(found, ir.Literal(None)),)))
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
        for index, (item, plan) in enumerate(zip(kind.items, plans, strict=True)):
            place = self._names.numbered(stem)
            into.append(ir.Assign((place,), ir.Item(value, index)))
            body: list[ir.Statement] = []
            unpacked = self.convert(ir.Name(place), item, plan, stem, body)
            body.append(_append(found, unpacked))
            into.append(ir.If(ir.IsPresent(place), tuple(body)))

    def _fresh_list(self, kind: Type, stem: str, into: list[ir.Statement]) -> ir.Name:
        name = ir.Name(self._names.numbered(stem))
        into.append(ir.Assign((name.id,), ir.Empty("[]"), self._target(ListType(kind))))
        return name

    def _named(self, value: ir.Expression, stem: str, into: list[ir.Statement]) -> ir.Name:
        # Evaluated once, and refinable: TorchScript narrows an Optional only where it is a plain name.
        if isinstance(value, ir.Name):
            return value
        name = ir.Name(self._names.numbered(stem))
        into.append(ir.Assign((name.id,), value))
        return name


def _append(items: ir.Name, item: ir.Expression) -> ir.Statement:
    return ir.Do(ir.Call(ir.Attribute(items, "append"), (item,)))
