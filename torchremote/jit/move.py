"""A plan -> the statements that move a value's tensors.

Note [Typed accumulation]
    A TorchScript variable has one type, and a tuple's type is the types of its items. A tuple is therefore rebuilt
    from `Tuple[()]`, one item and one new name a step, so that every step has its exact type::

        out_0: Tuple[()] = ()
        out_1 = out_0 + (result[0].cpu(),)
        out_2 = out_1 + (result[1],)

    Lists, dicts and optionals declare the type of what they collect in.
"""

from __future__ import annotations

from collections.abc import Callable

from . import ir
from .model import DictType, ListType, OptionalType, TupleType, Type
from .names import Names
from .plan import Keep, Move, Plan, WalkDict, WalkList, WalkOptional, WalkTuple


class Mover:
    """Moves values within one function: `names` is its scope, `transfer` moves one tensor."""

    def __init__(self, names: Names, transfer: Callable[[ir.Expression], ir.Expression]) -> None:
        self._names = names
        self._transfer = transfer

    def move(self, value: ir.Expression, type: Type, plan: Plan, stem: str, into: list[ir.Statement]) -> ir.Expression:
        """`value` with its tensors moved. The statements for it are added to `into`, their names begin with `stem`."""
        match plan, type:
            case Keep(), _:
                return value
            case Move(), _:
                return self._transfer(value)
            case WalkTuple(plans), TupleType(types):
                return self._move_tuple(self._named(value, stem, into), types, plans, stem, into)
            case WalkOptional(item), OptionalType(item_type):
                source = self._named(value, stem, into)
                moved = self._names.numbered(stem)
                into.append(ir.Assign((moved,), ir.Literal(None), str(type)))
                body: list[ir.Statement] = []
                present = self.move(source, item_type, item, stem, body)
                body.append(ir.Assign((moved,), present))
                into.append(ir.IfPresent(source.id, tuple(body)))
                return ir.Name(moved)
            case WalkList(item), ListType(item_type):
                moved, element = self._names.numbered(stem), self._names.numbered(stem)
                into.append(ir.Assign((moved,), ir.Empty("[]"), str(type)))
                body = []
                appended = self.move(ir.Name(element), item_type, item, stem, body)
                body.append(ir.Do(ir.Call(ir.Attribute(ir.Name(moved), "append"), (appended,))))
                into.append(ir.For((element,), value, tuple(body)))
                return ir.Name(moved)
            case WalkDict(item), DictType(_, item_type):
                moved = self._names.numbered(stem)
                key, element = self._names.fresh("key"), self._names.numbered(stem)
                into.append(ir.Assign((moved,), ir.Empty("{}"), str(type)))
                body = []
                stored = self.move(ir.Name(element), item_type, item, stem, body)
                body.append(ir.AssignItem(ir.Name(moved), ir.Name(key), stored))
                into.append(ir.For((key, element), ir.Call(ir.Attribute(value, "items")), tuple(body)))
                return ir.Name(moved)
        raise AssertionError(f"no walk {plan} through {type}")

    def _move_tuple(
        self, value: ir.Name, types: tuple[Type, ...], plans: tuple[Plan, ...], stem: str, into: list[ir.Statement]
    ) -> ir.Name:
        done = ir.Name(self._names.numbered(stem))
        into.append(ir.Assign((done.id,), ir.TupleOf(), "Tuple[()]"))
        for index, (type, plan) in enumerate(zip(types, plans, strict=True)):
            item = self.move(ir.Item(value, index), type, plan, stem, into)
            grown = ir.Name(self._names.numbered(stem))
            into.append(ir.Assign((grown.id,), ir.Concatenation(done, ir.TupleOf((item,)))))
            done = grown
        return done

    def _named(self, value: ir.Expression, stem: str, into: list[ir.Statement]) -> ir.Name:
        # Evaluated once, and refinable: TorchScript narrows an Optional only where it is a plain name.
        if isinstance(value, ir.Name):
            return value
        name = ir.Name(self._names.numbered(stem))
        into.append(ir.Assign((name.id,), value))
        return name
