"""Compares the arguments of a call with what was exported, and takes them apart, before a graph runs.

Note [Guards]
    A graph is right for the calls that torch.export assumed, and for no others. So the generated code compares the
    arguments with everything that was assumed: for tensors the layout, dtype, rank, and sizes; for lists the lengths;
    for dicts the keys and their order; whether an Optional is None; and the values of all else. What torch.export says
    of sizes and integers comes from three places, which overlap: the sizes of the graph's inputs, where one symbol is
    one size; the ranges of the symbols; and conditions in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

from ..lower import SourceNames, ir
from ..lower.names import Names
from ..read.literals import DeviceValue, MemberValue
from ..read.model import Method
from ..read.shown import repr_of
from ..read.types import DictType, EnumType, ListType, NamedTupleType, OptionalType, TupleType, Type
from .capture import Captured
from .comparisons import any_of, has_other_length, is_another, repeats_sizes, text_of
from .conditions import condition
from .sizes import Sizes
from .values import Constant, Leaf, Several, Tree
from .watching import CONJUGATE, GRAD_MODE, MEMORY, NEGATIVE, OFFSET

Fail = Callable[[ir.Expression, bool], ir.Statement]
"""Makes the statement for a call that the graph is not right for: of the text that says why, and whether another graph
could be right for it."""

_ASKED: Final = {
    MEMORY: ("is_contiguous", True, "a contiguous tensor", "contiguous()"),
    OFFSET: ("storage_offset", 0, "a tensor at the beginning of its storage", "clone()"),
    CONJUGATE: ("is_conj", False, "a tensor that is not conjugated lazily", "resolve_conj()"),
    NEGATIVE: ("is_neg", False, "a tensor that is not negated lazily", "resolve_neg()"),
}
"""For each question: the method of tensors that asks it, the answer of an example, what that is, and what does it."""


class Guards:
    """Takes the arguments of one graph apart.

    Args:
        names: the function's scope.
        fail: what a failed comparison does; None to compare nothing, as after a function that did.
        where: names interface and method in errors of the export.
        attribute: returns the expression for a parameter or buffer. None if the module does not have it.
    """

    def __init__(
        self,
        captured: Captured,
        method: Method,
        names: Names,
        source_names: SourceNames,
        fail: Fail | None,
        where: str,
        attribute: Callable[[str], ir.Expression | None],
    ) -> None:
        self._captured = captured
        self._method = method
        self._names = names
        self._source_names = source_names
        self._fail = fail
        self._where = where
        self._attribute = attribute
        self._how = "exported" if captured.package is None else "compiled"
        self._sizes = Sizes(captured.ranges, where)
        self._values = captured.leaves
        self._paths: dict[int, str] = {}  # how messages call a leaf
        self.leaves: dict[int, ir.Expression] = {}

    def lower(self, parameters: tuple[ir.Parameter, ...]) -> list[ir.Statement]:
        """Returns the statements. `leaves` then has the expression for each leaf."""
        body: list[ir.Statement] = []
        for parameter, argument, tree in zip(parameters, self._method.arguments, self._captured.arguments, strict=True):
            self._walk(ir.Name(parameter.name), tree, argument.type, argument.name, body)
        for wrong, where, right, value in self._sizes.computed():
            self._check(wrong, where, right, text_of(value), body)
        for guard in self._captured.guards:
            self._guard(guard, body)
        for name, required in self._captured.required.items():
            own = self._attribute(name)
            if own is not None:
                remedy = "set requires_grad as it was, or export the module as it is now"
                self._gradient(own, required, f"self.{name}", f"; {remedy}", body)
        if GRAD_MODE in self._captured.asked:
            enabled = ir.called(ir.Name("torch"), "is_grad_enabled")
            wrong = ir.Operation("!=", enabled, ir.Literal(self._captured.grad_mode))
            is_on = self._captured.grad_mode
            came = ir.Literal("one without" if is_on else "one with; call it under torch.no_grad()")
            self._check(
                wrong, self._method.name, f"calls {'with' if is_on else 'without'} gradients", came, body, False
            )
        return body

    def _check(
        self,
        wrong: ir.Expression,
        where: str,
        exported: str,
        came: ir.Expression,
        into: list[ir.Statement],
        another: bool = True,
    ) -> None:
        """Adds a comparison. `exported` says what the graph is right for, and `came` is the text of what came.

        Args:
            another: another graph could be right for such a call.
        """
        if self._fail is not None:
            said = ir.Operation("+", ir.Literal(f"{where}: {self._how} for {exported}; came "), came)
            into.append(ir.If(wrong, (self._fail(said, another),)))

    def _walk(self, value: ir.Name, tree: Tree, kind: Type, where: str, into: list[ir.Statement]) -> None:
        """Takes a value apart."""
        match tree, kind:
            case Constant(None), OptionalType():
                self._check(ir.is_present(value), where, "None", ir.Literal("a value"), into)
            case _, OptionalType(item):
                # Compared or not, TorchScript has to see that it is present.
                said = ir.Literal(f"{where}: {self._how} for a value; came None")
                missing = ir.Raise(said) if self._fail is None else self._fail(said, True)
                into.append(ir.If(ir.Operation("is", value, ir.Literal(None)), (missing,)))
                self._walk(value, tree, item, where, into)
            case Leaf(index), _:
                self.leaves[index] = value
                self._paths[index] = where
                self._leaf(value, self._values[index], where, into)
                if isinstance(self._values[index], torch.Tensor):
                    self._asked(value, index, where, into)
            case Constant(found), _:
                self._constant(value, found, kind, where, into)
            case Several(items, keys), DictType(_, item) if keys is not None:
                listed = ir.ListOf(tuple(ir.Literal(key) for key in keys))
                found = ir.call("list", ir.called(value, "keys"))
                wrong = ir.Operation("!=", found, listed) if keys else has_other_length(value, 0)
                numbers = [(n, key) for n, key in enumerate(keys) if isinstance(key, (float, complex))]
                wrong = any_of([wrong, *(is_another(ir.Item(found, n), key) for n, key in numbers)])
                exported = f"the keys {', '.join(map(repr, keys))} in this order" if keys else "no keys"
                self._check(wrong, where, exported, text_of(found), into)
                for key, part in zip(keys, items, strict=True):
                    self._walk(self._part(value, ir.Literal(key), into), part, item, f"{where}[{repr_of(key)}]", into)
            case Several(items), ListType(item):
                length = ir.length(value)
                self._check(has_other_length(value, len(items)), where, f"{len(items)} items", text_of(length), into)
                for n, part in enumerate(items):
                    self._walk(self._part(value, n, into), part, item, f"{where}[{n}]", into)
            case Several(items), TupleType(kinds) | NamedTupleType(items=kinds):
                fields = [f".{name}" for name, _ in kind.fields] if isinstance(kind, NamedTupleType) else None
                for n, (part, item) in enumerate(zip(items, kinds, strict=True)):
                    at = fields[n] if fields else f"[{n}]"
                    self._walk(self._part(value, n, into), part, item, where + at, into)

    def _part(self, value: ir.Name, key: int | ir.Expression, into: list[ir.Statement]) -> ir.Name:
        """Assigns an item of a value to a variable of its own: TorchScript refines nothing else."""
        name = self._names.numbered(value.id)
        into.append(ir.Assign((name,), ir.Item(value, key)))
        return ir.Name(name)

    def _constant(self, value: ir.Name, found: Any, kind: Type, where: str, into: list[ir.Statement]) -> None:
        """Compares a value with the one that is part of the graph."""
        came: ir.Expression = ir.call("str", value)
        if found is None:
            return
        if isinstance(kind, EnumType):
            member: ir.Expression = ir.Literal(MemberValue(self._source_names.classes[kind], found.name))
            came = ir.call("str", ir.Attribute(value, "name"))
            self._check(ir.Operation("!=", value, member), where, found.name, came, into)
            return
        if isinstance(found, torch.dtype):
            wanted: ir.Expression = ir.Attribute(ir.Name("torch"), str(found).removeprefix("torch."))
            came = ir.call("shown_dtype", value)
        else:
            wanted = ir.Literal(DeviceValue(str(found)) if isinstance(found, torch.device) else found)
        wrong: ir.Expression = ir.Operation("!=", value, wanted)
        if isinstance(found, (float, complex)):
            wrong = is_another(value, found)
        self._check(wrong, where, repr(found), came, into)

    def _leaf(self, value: ir.Name, symbolic: Any, where: str, into: list[ir.Statement]) -> None:
        """Compares a tensor or an integer with what the graph was traced with."""
        if isinstance(symbolic, torch.Tensor):
            self._tensor(value, symbolic, where, into)
            return
        wrong: list[ir.Expression] = []
        shown = self._sizes.compare(value, symbolic, where, wrong)
        if wrong:
            self._check(any_of(wrong), where, shown, text_of(value), into)

    def _tensor(self, value: ir.Name, symbolic: torch.Tensor, where: str, into: list[ir.Statement]) -> None:
        dtype = str(symbolic.dtype).removeprefix("torch.")
        torch_name = ir.Name("torch")
        rank = ir.called(value, "dim")
        layout = str(symbolic.layout).removeprefix("torch.")
        wrong: list[ir.Expression] = [
            ir.Operation("!=", ir.Attribute(value, "layout"), ir.Attribute(torch_name, layout)),
            ir.Operation("!=", ir.Attribute(value, "dtype"), ir.Attribute(torch_name, dtype)),
            ir.Operation("!=", rank, ir.Literal(symbolic.dim())),
        ]
        sizes = [
            self._sizes.compare(ir.called(value, "size", ir.Literal(n)), size, f"{where}.size({n})", wrong)
            for n, size in enumerate(symbolic.shape)
        ]
        came = ir.call("shown_tensor", value)
        self._check(any_of(wrong), where, f"{dtype} [{', '.join(sizes)}]", came, into)

    def _asked(self, value: ir.Name, index: int, where: str, into: list[ir.Statement]) -> None:
        """Compares what the method asked of tensors beside their sizes."""
        if self._captured.gradients is not None:
            self._gradient(value, self._captured.gradients[index], where, "", into)
        if self._captured.device is not None:
            self._packaged(value, self._captured.device, where, into)
        for method, wanted, exported, remedy in (_ASKED[one] for one in _ASKED if one in self._captured.asked):
            found: ir.Expression = ir.called(value, method)
            wrong = ir.Operation("!=", found, ir.Literal(wanted))
            self._check(wrong, where, exported, ir.Literal(f"another; pass {remedy}"), into, another=False)

    def _gradient(
        self, value: ir.Expression, required: bool, where: str, remedy: str, into: list[ir.Statement]
    ) -> None:
        """Compares whether a tensor requires a gradient. `remedy`: what to do; "" to give another example."""
        wrong = ir.Operation("!=", ir.Attribute(value, "requires_grad"), ir.Literal(required))
        came = ir.Literal(f"one that {'does not' if required else 'does'}{remedy}")
        exported = f"a tensor that requires {'a' if required else 'no'} gradient"
        self._check(wrong, where, exported, came, into, another=not remedy)

    def _packaged(self, value: ir.Name, device: torch.device, where: str, into: list[ir.Statement]) -> None:
        """Compares what only a package is not right for: another device, and a gradient, which it would lose."""
        own = ir.Attribute(value, "device")
        self._check(
            ir.Operation("!=", own, ir.Literal(DeviceValue(str(device)))), where, str(device), text_of(own), into
        )
        enabled = ir.called(ir.Name("torch"), "is_grad_enabled")
        wrong = ir.Operation("and", enabled, ir.Attribute(value, "requires_grad"))
        came = ir.Literal("one that requires a gradient")
        self._check(wrong, where, "calls without gradients, as in torch.no_grad()", came, into)

    def _guard(self, guard: str, into: list[ir.Statement]) -> None:
        """Compares with a condition that torch.export states in Python."""
        used: dict[str, ir.Expression] = {}
        readable = guard.replace("torch.sym_", "").replace("torch._sym_", "")

        def find(text: str) -> ir.Expression | None:
            for path, index in self._captured.paths.items():
                if text == path:
                    found = self.leaves[index]
                elif text.startswith(f"{path}.size()[") and text[len(path) + 8 : -1].isdigit():
                    dimension = ir.Literal(int(text[len(path) + 8 : -1]))
                    found = ir.called(self.leaves[index], "size", dimension)
                else:
                    continue
                used[text] = found
                return found
            return None

        divisors: list[ir.Expression] = []
        right = condition(guard, find, self._where, divisors)
        if repeats_sizes(right, self.leaves, self._values):
            return
        for divisor in reversed(divisors):  # one in another one's expression comes after it in the list
            right = ir.Operation("and", ir.Operation("!=", divisor, ir.Literal(0)), right)
        for text in sorted(used, key=len, reverse=True):
            readable = readable.replace(text, self._shown_source(text))
        match right:
            case ir.Operation("!=", ir.Call(ir.Attribute(_, "size")), ir.Literal(1)) | ir.Operation(
                "!=", ir.Literal(1), ir.Call(ir.Attribute(_, "size"))
            ):
                readable = "sizes of 2 or more"
        first = self._shown_source(next(iter(used), guard))
        came: ir.Expression = ir.Literal("")
        for number, (text, value) in enumerate(used.items()):
            said = ir.Literal(f"{', ' if number else ''}{self._shown_source(text)} of ")
            came = ir.Operation("+", ir.Operation("+", came, said), text_of(value))
        self._check(ir.negated(right), first, readable, came, into)

    def _shown_source(self, text: str) -> str:
        for path, index in self._captured.paths.items():
            if text == path or text.startswith(f"{path}."):
                return self._paths[index] + text[len(path) :].replace("size()[", "size(").replace("]", ")")
        return text
