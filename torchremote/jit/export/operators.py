"""Writes an operator of an exported graph as a call in TorchScript, and arithmetic on sizes as Python's operators."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from ... import _torch
from ...errors import CreationError
from ..lower import ir
from ..read.literals import DeviceValue
from . import bools, derivatives
from .nodes import value_of

Argument = Callable[[Any], ir.Expression]
"""Writes a value of the graph: a node, or a constant."""

NEGATIVE_ZERO: Final = "torchremote_negative_zero"
"""The attribute from which graphs read -0.0. Of 0.0 and -0.0, TorchScript makes one constant."""
NONES: Final = {
    f"Optional[{kind}]": f"torchremote_no_{name}"
    for kind, name in {
        **{kind: kind.lower() for kind in ("Tensor", "int", "float", "bool", "str")},
        **{"List[int]": "ints", "List[float]": "floats"},
    }.items()
}
"""The attributes from which graphs read None where its type tells overloads apart. A None in the text has no type."""
_TORCH: Final = ir.Name("torch")
_SIGNS: Final[dict[Any, str]] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.eq: "==",
    operator.ne: "!=",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
}
_OF_BOOLS: Final[dict[Any, str]] = {operator.and_: "and", operator.or_: "or"}
_OF_INTEGERS: Final[dict[Any, str]] = {operator.and_: "&", operator.or_: "|"}
# Functions of runtime/exported.py, where TorchScript's operators differ from Python's: of two integers, and otherwise.
_DIVISIONS: Final[dict[Any, tuple[str, str]]] = {
    operator.floordiv: ("floor_quotient", "float_floor_quotient"),
    operator.truediv: ("true_quotient", "true_quotient"),
    operator.mod: ("modulo", "float_modulo"),
}
_SHIFTS: Final[dict[Any, str]] = {operator.lshift: "shifted_left", operator.rshift: "shifted_right"}
_FUNCTIONS: Final[dict[Any, str]] = {
    torch.sym_int: "int",
    torch.sym_float: "float",
    torch.sym_max: "max",
    torch.sym_min: "min",
    max: "max",
    min: "min",
    int: "int",
    float: "float",
    bool: "bool",
    abs: "abs",
    operator.abs: "abs",
    math.trunc: "int",
    math.ceil: "math.ceil",
    math.floor: "math.floor",
    math.sqrt: "math.sqrt",
    math.log: "math.log",
    math.exp: "math.exp",
}
_SIZES: Final = {
    "aten::size": "size",
    "aten::sym_size": "size",
    "aten::sym_stride": "stride",
    "aten::sym_numel": "numel",
    "aten::sym_storage_offset": "storage_offset",
}


@dataclass
class Operators:
    """Writes operators, and counts what TorchScript has to find: it chooses an overload by the arguments alone."""

    where: str  # names interface and method in errors
    expected: Counter[tuple[str, str]] = field(default_factory=Counter)  # by name and overload
    loose: set[str] = field(default_factory=set)  # names of operators that take a number for a tensor
    devices: set[str] = field(default_factory=set)  # the devices that the graph names
    by_keyword: set[str] = field(default_factory=set)  # operators whose arguments have their names, and a None its type
    has_negative_zero: bool = False  # a graph reads it
    nones: dict[str, str] = field(default_factory=dict)  # attributes that are None, and their types

    def call(self, node: torch.fx.Node, write: Argument) -> ir.Expression:
        """Writes the call of an operator of ATen, or of another library."""
        target: Any = node.target
        arguments, keywords = node.args, dict(node.kwargs)
        schema = _torch.operator_schema(target)
        if schema.name in _SIZES:
            return ir.called(write(arguments[0]), _SIZES[schema.name], *map(write, arguments[1:]))
        if _torch.has_python_kernels(target):
            raise self.refused(f"the operator {schema.name}, which is written in Python and takes the GIL")
        if bools.differs(target, node):
            if schema.name == "aten::full":
                keywords["dtype"] = torch.bool
            else:
                schema = self._for_tensors(target, node)
        differ = derivatives.differ(schema, arguments, keywords)
        if differ:
            write = self._apart(write)
        space, name = schema.name.split("::")
        given: list[ir.Expression] = []
        in_full = schema.name in self.by_keyword
        for place, (value, declared) in enumerate(zip(arguments, schema.arguments, strict=False)):
            written = self._argument(value, declared, write, schema.name)
            if place == 0 and str(declared.type) == "Tensor" and _is_a(value, _NUMBERS):
                written = self._tensor_of(value, arguments, write)
            given.append(ir.Keyword(declared.name, written) if declared.kwarg_only or in_full else written)
        by_name = {declared.name: declared for declared in schema.arguments}
        if in_full:
            left_out = schema.arguments[len(arguments) :]
            keywords = {one.name: one.default_value for one in left_out if one.has_default_value()} | keywords
        for key, value in keywords.items():
            given.append(ir.Keyword(key, self._argument(value, by_name[key], write, schema.name)))
        self.expected[schema.name, schema.overload_name] += 1
        call = ir.Call(ir.operator_of(space, name), tuple(given))
        is_tensor = [str(one.type) for one in schema.returns] == ["Tensor"]
        return self.aten("resolve_neg", "", call) if differ and is_tensor else call

    def _for_tensors(self, target: Any, node: torch.fx.Node) -> Any:
        """Returns the schema of the overload that takes tensors for the bools that an operator takes for numbers."""
        found = bools.with_tensors(target, node)
        if found is None:
            raise CreationError(
                f"{self.where}: its graph has {_torch.operator_schema(target).name} with a bool for a number, of "
                "which TorchScript makes an integer, and the result would be another; give the operator an integer, "
                "or a tensor of bools"
            )
        return _torch.operator_schema(found)

    def _apart(self, write: Argument) -> Argument:
        """Returns what writes the arguments of an operator that TorchScript shall not differentiate."""

        def written(value: Any) -> ir.Expression:
            is_tensor = isinstance(value_of(value), torch.Tensor)
            return self.aten("resolve_neg", "", write(value)) if is_tensor else write(value)

        return written

    def aten(self, name: str, overload: str, *arguments: ir.Expression) -> ir.Expression:
        """Writes an operator of ATen that the graph does not have."""
        self.expected[f"aten::{name}", overload] += 1
        return ir.Call(ir.operator_of("aten", name), arguments)

    def _tensor_of(self, number: Any, arguments: tuple[Any, ...], write: Argument) -> ir.Expression:
        """Writes a number that an operator takes for its first tensor, in the dtype to which its tensors promote it."""
        tensor = next((one for one in map(value_of, arguments) if isinstance(one, torch.Tensor)), None)
        value = value_of(number)
        like: Any = next(kind(1) for kind, kinds in _KINDS.items() if isinstance(value, kinds))
        dtype = torch.tensor(like).dtype if tensor is None else torch.result_type(like, tensor)
        return self.aten("scalar_tensor", "", write(number), ir.Keyword("dtype", self.constant(dtype)))

    def _argument(self, value: Any, declared: Any, write: Argument, name: str) -> ir.Expression:
        kind = str(declared.type)
        if value is None and name in self.by_keyword and kind in NONES:
            self.nones[NONES[kind]] = kind
            return ir.Attribute(ir.Name("self"), NONES[kind])
        if isinstance(value, (list, tuple)):
            if not value:
                return ir.annotated(declared.type.annotation_str, ir.ListOf(()))
            items = ir.ListOf(tuple(self._number(item, kind, write) for item in value))
            return ir.annotated(kind, items) if kind in ("List[Optional[Tensor]]", "List[number]") else items
        if kind in ("Tensor", "Optional[Tensor]") and bools.is_bool(value):
            return self.aten("scalar_tensor", "", write(value), ir.Keyword("dtype", self.constant(torch.bool)))
        if kind == "Tensor" and not (isinstance(value, torch.fx.Node) and _is_tensor(value)):
            self.loose.add(name)
        return self._number(value, kind, write)

    def _number(self, value: Any, kind: str, write: Argument) -> ir.Expression:
        """Writes a value, as a float where the operator takes one."""
        if "float" in kind:
            if isinstance(value, int) and not isinstance(value, bool):
                return ir.Literal(float(value))
            if isinstance(value, torch.fx.Node) and isinstance(value_of(value), (torch.SymInt, int)):
                return ir.call("float", write(value))
        return write(value)

    def constant(self, value: Any) -> ir.Expression:
        """Writes a constant of the graph.

        Raises:
            CreationError: TorchScript has no such value.
        """
        if isinstance(value, float) and value == 0 and math.copysign(1.0, value) < 0:
            self.has_negative_zero = True
            return ir.Attribute(ir.Name("self"), NEGATIVE_ZERO)
        if isinstance(value, complex):
            return ir.call("complex", self.constant(value.real), self.constant(value.imag))
        if value is None or isinstance(value, (bool, int, float, str)):
            return ir.Literal(value)
        if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
            return ir.Attribute(_TORCH, str(value).removeprefix("torch."))
        if isinstance(value, torch.device):
            self.devices.add(str(value))
            return ir.Literal(DeviceValue(str(value)))
        if isinstance(value, (list, tuple)):
            return ir.ListOf(tuple(map(self.constant, value)))
        raise self.refused(f"a value of {type(value).__name__}")

    def sizes(self, target: Any, arguments: tuple[Any, ...], write: Argument) -> ir.Expression:
        """Writes arithmetic on sizes, and on numbers that were read out of tensors."""
        if target in _SIGNS:
            left, right = map(write, arguments)
            return ir.Operation(_SIGNS[target], left, right)
        if target in _OF_BOOLS:
            signs = _OF_BOOLS if all(_is_a(one, (bool, torch.SymBool)) for one in arguments) else _OF_INTEGERS
            return ir.Operation(signs[target], *map(write, arguments))
        if target in _DIVISIONS:
            of_integers, of_floats = _DIVISIONS[target]
            if target is not operator.truediv and all(_is_a(one, _INTEGERS) for one in arguments):
                return ir.call(of_integers, *map(write, arguments))
            floats = tuple(ir.call("float", write(one)) for one in arguments)
            return ir.call(of_floats, *floats)
        if target in _SHIFTS:
            return ir.call(_SHIFTS[target], *map(write, arguments))
        if target is round and arguments[1:] in ((), (None,)):  # to an integer, which is a float in TorchScript
            return ir.call("int", ir.call("round", write(arguments[0])))
        if target in _FUNCTIONS:
            return ir.call(_FUNCTIONS[target], *map(write, arguments))
        if target is operator.pow:
            return self._power(arguments[0], arguments[1], write)
        if target is operator.neg:
            return ir.Operation("-", None, write(arguments[0]))
        if target in (torch.sym_not, operator.not_):
            return ir.negated(write(arguments[0]))
        if target is torch.sym_ite:
            test, yes, no = map(write, arguments)
            return ir.Item(ir.ListOf((no, yes)), ir.call("int", test))
        name = getattr(target, "__name__", str(target))
        if name == "sym_sum":
            total = write(arguments[0][0])
            for one in arguments[0][1:]:
                total = ir.Operation("+", total, write(one))
            return total
        if name in ("sym_sqrt", "_sym_sqrt"):
            return ir.call("math.sqrt", ir.call("float", write(arguments[0])))
        raise self.refused(f"{getattr(target, '__module__', '')}.{name}")

    def _power(self, base: Any, exponent: Any, write: Argument) -> ir.Expression:
        """Writes a power. TorchScript's power of two integers is a float."""
        if _is_a(base, _INTEGERS) and _is_a(exponent, _INTEGERS):
            return ir.call("power", write(base), write(exponent))
        return ir.Operation("**", *(ir.call("float", write(one)) for one in (base, exponent)))

    def refused(self, what: str) -> CreationError:
        return CreationError(
            f"{self.where}: its graph has {what}, which cannot run without Python; compute that part in tensors and "
            "operators of torch, or leave it out of the method"
        )


_INTEGERS: Final = (int, torch.SymInt)
_NUMBERS: Final = (int, float, complex, torch.SymInt, torch.SymFloat)
_KINDS: Final[dict[Any, tuple[type, ...]]] = {int: _INTEGERS, float: (float, torch.SymFloat), complex: (complex,)}


def _is_a(value: Any, kinds: tuple[type, ...]) -> bool:
    """Says whether a value of the graph is one of these. A bool is no integer here."""
    found = value_of(value)
    return isinstance(found, kinds) and (bool in kinds or not isinstance(found, bool))


def _is_tensor(node: torch.fx.Node) -> bool:
    value = value_of(node)
    return value is None or isinstance(value, torch.Tensor)
