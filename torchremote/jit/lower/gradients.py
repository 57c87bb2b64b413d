"""Lowers what keeps distributed autograd from waiting for gradients that never come.

Note [Gradients that never come]
    Within a context of distributed autograd, torch records every call that takes a tensor that requires a gradient.
    `backward` then waits until each of these calls has had its part: it comes from the owner, along with the gradient
    of the result. If no tensor of the result requires a gradient, it never comes, and `backward` waits for ever.

    So tensors are detached before they are sent if the method's result cannot hold a tensor, or if the method is
    declared `detached`. For other methods, the owner looks. A tensor that arrives in a context and requires a gradient
    is no leaf, because torch made it the result of a node that it has for the call. Outside a context it is a leaf. If
    there is such a tensor, and none of the result requires a gradient, the call is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..read.model import Method
from ..read.types import DictType, ListType, OptionalType, TupleType, Type
from . import ir
from .names import Names
from .plan import (
    Keep,
    Move,
    MoveAny,
    Plan,
    WalkDict,
    WalkList,
    WalkOptional,
    WalkTuple,
    plan_arrival,
    plan_tensors,
    wire_type,
)


def lower_search_in_arguments(
    method: Method, parameters: tuple[ir.Parameter, ...], flags: ir.Name, found: ir.Name, names: Names
) -> list[ir.Statement]:
    """Lowers the search for a packed argument in which torch has recorded the call. `found` gets the outcome."""
    search = _Search(names, found, "is_recorded", "is_recorded_any")
    body: list[ir.Statement] = []
    for parameter, argument, plan in zip(parameters, method.arguments, plan_tensors(method), strict=True):
        body += search.through(ir.Name(parameter.name), wire_type(argument.type), plan)
    looks = ir.If(ir.call("needs_grad", flags), tuple(body))
    return [ir.assign(found, ir.Literal(False)), looks]


def lower_search_in_result(
    method: Method, packed: ir.Name, recorded: ir.Name, names: Names, where: str
) -> list[ir.Statement]:
    """Lowers the search in the packed result, if the call is recorded, and the error if it has no gradient."""
    found = ir.Name(names.fresh("found"))
    search = _Search(names, found, "is_differentiable", "is_differentiable_any")
    return [
        ir.If(
            recorded,
            (
                ir.assign(found, ir.Literal(False)),
                *search.through(packed, wire_type(method.returns), plan_arrival(method.returns)),
                ir.If(ir.negated(found), (ir.Do(ir.call("refuse_without_gradient", ir.Literal(where))),)),
            ),
        )
    ]


@dataclass(frozen=True)
class _Search:
    """Lowers a search through a value for a tensor that passes a test. If there is one, `found` becomes True."""

    names: Names
    found: ir.Name
    test: str
    test_any: str

    def through(self, value: ir.Expression, kind: Type, plan: Plan) -> tuple[ir.Statement, ...]:
        match plan, kind:
            case Keep(), _:
                return ()
            case Move(), _:
                return self._tested(self.test, value)
            case MoveAny(), _:
                return self._tested(self.test_any, value)
            case WalkOptional(item), OptionalType(item_type):
                name = ir.Name(self.names.numbered("part"))
                present = ir.If(ir.is_present(name), self.through(name, item_type, item))
                return (ir.assign(name, value), present)
            case WalkList(item), ListType(item_type):
                element = ir.Name(self.names.numbered("part"))
                return (ir.For((element.id,), value, self.through(element, item_type, item)),)
            case WalkDict(key_plan, value_plan), DictType(key_type, value_type):
                key, element = (ir.Name(self.names.numbered("part")) for _ in range(2))
                inside = (*self.through(key, key_type, key_plan), *self.through(element, value_type, value_plan))
                return (ir.For((key.id, element.id), ir.called(value, "items"), inside),)
            case WalkTuple(plans), TupleType(items):
                parts = enumerate(zip(items, plans, strict=True))
                walks = [self.through(ir.Item(value, index), item, item_plan) for index, (item, item_plan) in parts]
                return tuple(statement for walk in walks for statement in walk)
        raise AssertionError(f"no walk {plan} through {kind}")

    def _tested(self, test: str, value: ir.Expression) -> tuple[ir.Statement, ...]:
        return (ir.If(ir.call(test, value), (ir.assign(self.found, ir.Literal(True)),)),)
