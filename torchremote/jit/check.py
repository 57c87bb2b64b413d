"""A plan -> the statements that refuse the tensors in a value that torch would choke on: see tensors.py."""

from __future__ import annotations

from . import ir
from .names import Names
from .plan import Move, MoveAny, Plan, WalkDict, WalkList, WalkOptional, WalkTuple
from .types import DictType, ListType, OptionalType, TupleType, Type


class Checker:
    """Visits values within one function, as they cross.

    Args:
        names: the function's scope.
        devices: an expression for the devices that a tensor may be on, beside the CPU.
    """

    def __init__(self, names: Names, devices: ir.Expression) -> None:
        self._names = names
        self._devices = devices

    def check(
        self, value: ir.Expression, type: Type, plan: Plan, stem: str, where: ir.Expression, into: list[ir.Statement]
    ) -> None:
        """Statements for `value`, of the wire `type`, are added to `into`. `where`: what an error calls it, a str."""
        body: list[ir.Statement] = []
        match plan, type:
            case Move() | MoveAny(), _:
                function = "check_tensor" if isinstance(plan, Move) else "check_any"
                into.append(ir.Do(ir.Call(ir.Name(function), (value, self._devices, where))))
            case WalkTuple(plans), TupleType(types):
                for index, (item_type, item) in enumerate(zip(types, plans, strict=True)):
                    self.check(ir.Item(value, index), item_type, item, stem, where, into)
            case WalkOptional(item), OptionalType(item_type):
                if not isinstance(value, ir.Name):  # TorchScript narrows an Optional only where it is a plain name
                    name = self._names.numbered(stem)
                    into.append(ir.Assign((name,), value))
                    value = ir.Name(name)
                self.check(value, item_type, item, stem, where, body)
                into.append(ir.If(ir.IsPresent(value.id), tuple(body)))
            case WalkList(item), ListType(item_type):
                element = self._names.numbered(stem)
                self.check(ir.Name(element), item_type, item, stem, where, body)
                into.append(ir.For((element,), value, tuple(body)))
            case WalkDict(key_plan, value_plan), DictType(key_type, value_type):
                key, element = self._names.fresh("key"), self._names.numbered(stem)
                self.check(ir.Name(key), key_type, key_plan, stem, where, body)
                self.check(ir.Name(element), value_type, value_plan, stem, where, body)
                into.append(ir.For((key, element), ir.Call(ir.Attribute(value, "items")), tuple(body)))
