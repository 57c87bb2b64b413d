"""Lowers an exported graph to statements, one for each operator."""

from __future__ import annotations

import operator
import os
import re
from typing import Any, Final

import torch

from ... import _torch
from ...errors import CreationError
from ..lower import ir
from ..lower.names import Names
from .nodes import value_of
from .operators import Operators
from .regions import REGIONS

_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.*)')
_ASSERTION: Final = re.compile(r"Runtime assertion failed for expression (.+) on node '\w+'$")
_NOT_1: Final = re.compile(r"Ne\(u\d+, 1\)")
_TORCH: Final = os.path.dirname(torch.__file__)
_ASSERTED: Final = 3  # the place of the dtype among the arguments of _assert_tensor_metadata
_DROPOUTS: Final = ("aten::dropout", "aten::feature_dropout", "aten::alpha_dropout", "aten::feature_alpha_dropout")

Value = Any
"""Stands for a node: an expression, a list of those (the results of a region), or a region's graph."""


class Lowering:
    """Lowers the nodes of one graph and of its regions, in one scope.

    Args:
        names: the function's scope.
        inputs: the expression for each input of the graph, by its name.
        hold: keeps a tensor that a graph has as an attribute, and returns the expression for it.
    """

    def __init__(self, names: Names, operators: Operators, inputs: dict[str, ir.Expression], hold: Any) -> None:
        self.names = names
        self.operators = operators
        self._inputs = inputs
        self._hold = hold
        self.without_gradients = False  # inside of a region without them
        self._place = ""
        self._viewed = ""  # a view of another dtype above, of which the method has a copy

    def region(self, graph_module: Any, given: list[Value] | None, into: list[ir.Statement]) -> list[Any]:
        """Lowers a graph. Returns what its outputs are: expressions.

        Args:
            given: its inputs. None: it is the outermost graph, with the inputs that are known by name.
        """
        known: dict[torch.fx.Node, Value] = {}
        arguments = iter(given or ())
        for node in graph_module.graph.nodes:
            if node.op == "placeholder":
                known[node] = self._inputs.get(node.name) if given is None else next(arguments)
            elif node.op == "get_attr":
                known[node] = self._attribute(graph_module, node.target)
            elif node.op == "call_function":
                self._call(node, known, into)
            elif node.op == "output":
                outputs = node.args[0]
                outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
                return [self.write(output, known) for output in outputs]
            else:
                raise self.operators.refused(f"a node of kind {node.op}")
        raise self.operators.refused("no output")

    def write(self, value: Any, known: dict[torch.fx.Node, Value]) -> Value:
        """Writes an argument of a node."""
        if isinstance(value, torch.fx.Node):
            found = known[value]
            if found is None:
                raise self.operators.refused(f"an input of a kind that cannot be called with, {value.name}")
            return found
        if isinstance(value, (list, tuple)):
            return ir.ListOf(tuple(self.write(item, known) for item in value))
        return self.operators.constant(value)

    def fresh(self, wanted: str) -> str:
        return self.names.fresh(re.sub(r"\W", "_", wanted))

    def assign(self, wanted: str, value: ir.Expression, into: list[ir.Statement]) -> ir.Name:
        """Assigns a value to a new variable."""
        name = self.fresh(wanted)
        into.append(ir.Assign((name,), value))
        return ir.Name(name)

    def _attribute(self, graph_module: Any, target: str) -> Value:
        found = graph_module
        for part in target.split("."):
            found = getattr(found, part)
        if isinstance(found, torch.fx.GraphModule):
            return found
        if isinstance(found, torch.Tensor):
            return self._hold(found)
        raise self.operators.refused(f"an attribute {target} of class {type(found).__name__}")

    def _call(self, node: torch.fx.Node, known: dict[torch.fx.Node, Value], into: list[ir.Statement]) -> None:
        """Lowers one operator."""
        target: Any = node.target

        def write(value: Any) -> Value:
            return self.write(value, known)

        if isinstance(target, _torch.HigherOrderOperator):
            lower = REGIONS.get(target.name())
            if lower is None:
                raise self.operators.refused(f"the operator {target.name()}")
            self._comment(node, into)
            known[node] = lower(self, node, node.args, write, into)
        elif target is operator.getitem:
            items: Any = node.args[0]
            index: Any = node.args[1]
            found = known[items]
            known[node] = (
                found[index] if isinstance(found, list) else self.assign(node.name, ir.Item(found, write(index)), into)
            )
        elif isinstance(target, _torch.OpOverload):
            self._comment(node, into)
            known[node] = self._operator(node, target, write, into)
        else:
            known[node] = self.assign(node.name, self.operators.sizes(target, node.args, write), into)

    def _operator(self, node: torch.fx.Node, target: Any, write: Any, into: list[ir.Statement]) -> Value:
        name = _torch.operator_schema(target).name
        if name == "aten::_assert_scalar":
            condition, message = node.args
            into.append(ir.If(ir.negated(write(condition)), (ir.Raise(ir.Literal(self._assumed(str(message)))),)))
            return None
        if name == "aten::_assert_tensor_metadata":
            dtype = node.kwargs.get("dtype", node.args[_ASSERTED] if len(node.args) > _ASSERTED else None)
            if dtype is not None:
                wrong = ir.Operation("!=", ir.Attribute(write(node.args[0]), "dtype"), write(dtype))
                into.append(ir.If(wrong, (ir.Raise(ir.Literal(f"{node.args[0]} is not of {dtype}")),)))
            return None
        if name in ("aten::sym_constrain_range", "aten::sym_constrain_range_for_size"):
            self._constrain(node, write, into)
            return None
        if name in ("aten::item", "aten::_local_scalar_dense"):
            value = value_of(node)
            number = "bool" if isinstance(value, (torch.SymBool, bool)) else "int"
            number = "float" if isinstance(value, (torch.SymFloat, float)) else number
            return self.assign(node.name, ir.call(number, write(node.args[0])), into)
        if name in _DROPOUTS and (node.args[1] == 0 or node.args[2] is False):  # eagerly, the result is the argument
            return write(node.args[0])
        if name == "aten::alias":  # what watching.py makes of contiguous() where it does nothing for the example
            return self.assign(node.name, ir.called(write(node.args[0]), "contiguous"), into)
        if self._viewed and _torch.changes_any(target):
            raise CreationError(
                f"{self.operators.where}: after {self._viewed}, of which an exported module makes a copy, it changes a "
                "tensor in place or assigns a buffer; write torch.view_copy(x, dtype) for x.view(dtype)"
            )
        if target is torch.ops.aten.view.dtype:  # TorchScript would take the dtype for a size
            self._viewed = f"x.view(dtype){self._near()}"
            call = self.operators.aten(
                "view_copy", "dtype", write(node.args[0]), ir.Keyword("dtype", write(node.args[1]))
            )
        else:
            call = self.operators.call(node, write)
        if not node.users:
            into.append(ir.Do(call))
            return None
        return self.assign(node.name, call, into)

    def _assumed(self, message: str) -> str:
        """Words what torch.export assumed of a number that only a call computes."""
        found = _ASSERTION.match(message)
        if found is None:
            return message
        assumed = "any size but 1" if _NOT_1.fullmatch(found[1]) else found[1]
        return (
            f"the method was exported for {assumed}, of a number that it computes{self._near()}, and this call has "
            "another; call it with values like the example's, or have the method do without that number"
        )

    def _near(self) -> str:
        """Words where in the user's code the operator is."""
        return f", in or after {self._place}" if self._place else ""

    def _constrain(self, node: torch.fx.Node, write: Any, into: list[ir.Statement]) -> None:
        """Compares a number that was read out of a tensor with its limits."""
        given = dict(zip(("size", "min", "max"), node.args, strict=False)) | dict(node.kwargs)
        for limit, sign in (("min", "<"), ("max", ">")):
            if given.get(limit) is not None:
                wrong = ir.Operation(sign, write(given["size"]), write(given[limit]))
                into.append(ir.If(wrong, (ir.Raise(ir.Literal(f"{given['size']} {sign} {given[limit]}")),)))

    def _comment(self, node: torch.fx.Node, into: list[ir.Statement]) -> None:
        """Says where in the user's code an operator came from, where that is another line than the last one's."""
        found = _FRAME.findall(node.meta.get("stack_trace") or "")
        own = [frame for frame in found if not frame[0].startswith("<")]
        users = [frame for frame in own if not frame[0].startswith(_TORCH)]
        if own:
            file, line, function, code = (users or own)[-1]
            folder, name = os.path.split(file)
            place = f"{os.path.basename(folder)}/{name}:{line} in {function}: {code}"
            if place != self._place:
                self._place = place
                into.append(ir.Comment(place.encode("ascii", "replace").decode()))
