"""Finds out whether the methods of a scripted module change the module itself.

Note [Modules that change themselves]
    What a method changes stands in its graph: an attribute is assigned, or a list or dict that the module holds is
    written to, by the method, by one that it calls, or by a part. Values are followed from `self` through attributes,
    containers, branches, loops, forks, and modules behind an interface. A list that a method makes, or gets as an
    argument, is not the module's.

    Tensors that are changed in place do not count: memory stays whole, only updates may get lost. BatchNorm does so
    in training. Nor do objects of custom classes in C++, and objects behind an interface of classes: their methods are
    not in the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch

from ... import _torch

_CONTAINERS: Final = ("ListType", "DictType")
_WRAPPERS: Final = ("TupleType", "OptionalType", "UnionType", "FutureType", "AwaitType")
_OBJECTS: Final = ("ClassType", "InterfaceType", "AnyType", "AnyClassType")


def change_of(module: torch.jit.ScriptModule) -> str | None:
    """Words the first change that a method of `module` makes to the module. None if there is none.

    For example "forward assigns self.hidden".
    """
    search = _Search(module)
    for method in _torch.method_names(module):
        change = search.change_in_method(module, method, [True])
        if change is not None:
            return f"{method} {change}"
    return None


class _Search:
    """Looks through the graphs of one module. `held`: the names of the values in a graph that belong to the module."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self._parts = [part for part in module.modules() if isinstance(part, torch.jit.ScriptModule)]
        self._seen: dict[tuple[str, str, tuple[bool, ...]], list[bool]] = {}

    def change_in_method(self, part: torch.jit.ScriptModule, method: str, given: Sequence[bool]) -> str | None:
        """Words the first change that a method makes. `given`: which of its inputs belong to the module."""
        key = (_torch.type_name(part), method, tuple(given))
        if key in self._seen:
            return None  # it changes nothing, or it is being looked at
        self._seen[key] = []
        change, self._seen[key] = self._look(_torch.inlined_graph(part, method), given)
        return change

    def _look(self, graph: Any, given: Sequence[bool]) -> tuple[str | None, list[bool]]:
        """Looks through a graph. Returns the change, and which of the outputs belong to the module."""
        inputs = [value.debugName() for value in graph.inputs()]
        held = {name for name, is_held in zip(inputs, given, strict=False) if is_held}
        while True:
            known = len(held)
            change = self._change_in(graph, held)
            if change is not None or len(held) == known:  # a loop may hand on what it found later
                return change, [value.debugName() in held for value in graph.outputs()]

    def _change_in(self, block: Any, held: set[str]) -> str | None:
        for node in block.nodes():
            change = self._change_by(node, held)
            if change is not None:
                return change
        return None

    def _change_by(self, node: Any, held: set[str]) -> str | None:
        """Words the change that a node makes. Adds those of its outputs that belong to the module to `held`."""
        inputs = [value.debugName() for value in node.inputs()]
        match node.kind():
            case "prim::SetAttr":
                if inputs[0] in held:
                    return f"assigns self.{node.s('name')}"
                _hold(held, inputs[:1], inputs[1] in held)
            case "prim::GetAttr":
                _hold_values(held, node.outputs(), inputs[0] in held)
            case "prim::If":
                return self._change_in_branches(node, held)
            case "prim::Loop":
                return self._change_in_loop(node, inputs, held)
            case "prim::CallMethod":
                return self._change_by_call(node, inputs, held)
            case _ if node.hasAttribute("Subgraph"):
                given = [name in held for name in inputs]
                change, results = self._look(_torch.inlined(node.g("Subgraph")), given)
                _hold_values(held, node.outputs(), any(results))
                return change
            case _:
                return _change_by_operator(node, inputs, held)
        return None

    def _change_in_branches(self, node: Any, held: set[str]) -> str | None:
        outputs = [value.debugName() for value in node.outputs()]
        for block in node.blocks():
            change = self._change_in(block, held)
            if change is not None:
                return change
            for output, value in zip(outputs, block.outputs(), strict=True):
                _hold(held, [output], value.debugName() in held)
        return None

    def _change_in_loop(self, node: Any, inputs: list[str], held: set[str]) -> str | None:
        (body,) = node.blocks()
        carried = [value.debugName() for value in body.inputs()][1:]  # after the number of the turn
        handed_on = [value.debugName() for value in body.outputs()][1:]  # after whether to go on
        outputs = [value.debugName() for value in node.outputs()]
        for start, inside, end, output in zip(inputs[2:], carried, handed_on, outputs, strict=True):
            _hold(held, [inside, output], start in held or end in held)
        return self._change_in(body, held)

    def _change_by_call(self, node: Any, inputs: list[str], held: set[str]) -> str | None:
        """Looks into the method of a module that is behind an interface: into that of every part that has one."""
        method, given = node.s("name"), [name in held for name in inputs]
        for part in self._parts:
            if _torch.has_method(part, method):
                change = self.change_in_method(part, method, given)
                if change is not None:
                    return change
                results = self._seen[_torch.type_name(part), method, tuple(given)]
                _hold_values(held, node.outputs(), any(results))
        return None


def _change_by_operator(node: Any, inputs: list[str], held: set[str]) -> str | None:
    """Words the change that an operator makes to a list or dict of the module."""
    if not any(name in held for name in inputs):
        return None
    schema = _schema(node.schema())
    if schema is None or node.kind().startswith("prim::") or node.kind() == "aten::wait":
        _hold_values(held, node.outputs(), True)  # it hands values on, put together or taken apart
        return None
    for value, argument in zip(node.inputs(), schema.arguments, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write and value.type().kind() in _CONTAINERS:
            if value.debugName() in held:
                what = "dict" if value.type().kind() == "DictType" else "list"
                return f"changes a {what} that the module holds ({node.kind().removeprefix('aten::')})"
            _hold(held, [value.debugName()], _holds_changeable(value.type()))
    for value, result in zip(node.outputs(), schema.returns, strict=False):
        is_new = result.alias_info is None and not _holds_changeable(value.type())
        _hold_values(held, [value], not is_new)
    return None


@functools.cache
def _schema(text: str) -> Any:
    """Reads an operator's signature. None if it has none, or one with a type that torch writes and cannot read."""
    try:
        return None if text == "(no schema)" else _torch.parse_schema(text)
    except RuntimeError:
        return None


def _hold(held: set[str], names: Iterable[str], is_held: bool) -> None:
    if is_held:
        held.update(names)


def _hold_values(held: set[str], values: Iterable[Any], is_held: bool) -> None:
    if is_held:
        held.update(value.debugName() for value in values if _may_belong(value.type()))


def _may_belong(kind: Any) -> bool:
    """Says whether a value of that type can be changed, or lead to one that can."""
    if kind.kind() in _CONTAINERS or kind.kind() in _OBJECTS:
        return True
    return kind.kind() in _WRAPPERS and _holds_changeable(kind)


def _holds_changeable(kind: Any) -> bool:
    """Says whether a value of that type can lead to another one that can be changed."""
    return kind.kind() in _OBJECTS or any(map(_may_belong, kind.containedTypes()))
