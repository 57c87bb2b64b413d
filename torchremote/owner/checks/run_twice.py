"""Refuses calls that change something where TorchScript runs them twice.

Note [What runs twice]
    TorchScript compiles some expressions more than once: the middle of `1 < self.next() < 50`, the left of
    `self.next() % 4`, and an index of a tensor, as in `x[self.next()]`, also where it is assigned to. So what the call
    changes, or a random number that it draws, is another one. In a slice, and as an index of a list or a dict, it runs
    once. A call that changes nothing only takes longer.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import nn

from .kinds import Kinds
from .scripted_code import Code
from .self_changing import change_of
from .source import NO_TENSORS, last_name

_DRAW: Final = frozenset(
    "bernoulli dropout multinomial normal poisson rand rand_like randint randint_like randn randn_like randperm".split()
)
_CHANGE: Final = frozenset("append clear extend insert pop popitem remove reverse setdefault sort update".split())
_DROPPING: Final = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_VALUES: Final = (torch.Tensor, str, list, dict, tuple)


def check_twice(kinds: Kinds, changes: Changes) -> None:
    """Raises CreationError for such a call, with the line, and what to write."""
    code = kinds.code
    for node in code.source.nodes:
        inside: list[ast.expr] = []
        draws = False
        if isinstance(node, ast.Compare):
            inside, draws = node.comparators[:-1], True
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            inside = [node.left]
        elif isinstance(node, ast.Subscript) and _may_be_tensor(code, node.value):
            indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            inside = [index for index in indices if not isinstance(index, ast.Slice)]
        for call in _calls(inside):
            if changes.made_by(kinds, call, draws):
                raise code.refusal(
                    node,
                    f"runs `{ast.unparse(call)}` more than once in TorchScript, and it changes something, or draws "
                    "numbers; put its result in a name first, and use that",
                )


def _calls(expressions: Iterable[ast.AST]) -> Iterator[ast.Call]:
    return (node for one in expressions for node in ast.walk(one) if isinstance(node, ast.Call))


def _may_be_tensor(code: Code, expression: ast.expr) -> bool:
    """Says whether an expression may be a tensor, as far as the source says."""
    if isinstance(expression, ast.Name):
        annotations = [one.annotation for one in code.source.arguments if one.arg == expression.id]
        annotations += [
            node.annotation
            for node in code.source.nodes
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", None) == expression.id
        ]
        if any(one is not None and torch.Tensor not in code.alternatives(one) for one in annotations):
            return False
        given = [value for target, value, _ in code.source.given if getattr(target, "id", None) == expression.id]
        if any(isinstance(value, NO_TENSORS) for value in given):
            return False
    found = code.value(expression)
    return not isinstance(expression, NO_TENSORS) and (found is None or isinstance(found, torch.Tensor))


class Changes:
    """Knows which calls change something. `kinds`: those of all that is compiled."""

    def __init__(self, kinds: Iterable[Kinds]) -> None:
        self._kinds: dict[types.FunctionType, list[Kinds]] = {}
        for one in kinds:
            self._kinds.setdefault(one.code.function, []).append(one)
        self._known: dict[tuple[types.FunctionType, bool], bool] = {}

    def made_by(self, kinds: Kinds, call: ast.Call, draws: bool) -> bool:
        """Says whether a call changes something. `draws`: drawing random numbers counts, too."""
        code = kinds.code
        name, function = last_name(call.func), code.value(call.func)
        if draws and name in _DRAW:
            return True
        if isinstance(function, types.FunctionType):
            return self._by_function(function, draws)
        if modules := code.modules(call.func, scripted=True):
            return any(self._by_module(module, draws) for module in modules)
        if function is not None or not isinstance(call.func, ast.Attribute):
            return False  # it is built in, or a class
        if name == "sort" and _sorts_tensor(kinds, call):
            return False
        if name in _CHANGE or (name.endswith("_") and not name.endswith("__")):
            return True
        return not any(hasattr(kind, name) for kind in _VALUES)  # a method of an object

    def _by_module(self, module: nn.Module, draws: bool) -> bool:
        """Says whether a call of a part changes something."""
        for part in module.modules():
            if isinstance(part, torch.jit.ScriptModule):
                if change_of(part) is not None:
                    return True
                continue
            is_dropping = draws and isinstance(part, _DROPPING)
            if is_dropping or getattr(part, "track_running_stats", False) is True:
                return True
            forward = inspect.getattr_static(type(part), "forward", None)
            if isinstance(forward, types.FunctionType) and self._by_function(forward, draws):
                return True
        return False

    def _by_function(self, function: types.FunctionType, draws: bool) -> bool:
        key = (inspect.unwrap(function), draws)
        if key not in self._known:
            self._known[key] = False  # while it is looked at
            self._known[key] = any(self._by_code(kinds, draws) for kinds in self._kinds.get(key[0], []))
        return self._known[key]

    def _by_code(self, kinds: Kinds, draws: bool) -> bool:
        code = kinds.code
        targets: list[ast.expr] = [target for target, _, _ in code.source.given]
        for node in code.source.nodes:
            if isinstance(node, (ast.AugAssign, ast.AnnAssign)):
                targets.append(node.target)
                is_name = isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
                if is_name and not _is_new(code, node.target) and _may_be_tensor(code, node.target):
                    return True
        stored = (one for target in targets for one in ast.walk(target))
        if any(isinstance(one, (ast.Attribute, ast.Subscript)) and not _is_new(code, one) for one in stored):
            return True
        calls = (node for node in code.source.nodes if isinstance(node, ast.Call))
        return any(self.made_by(kinds, call, draws) for call in calls if not _is_of_new(code, call))


def _sorts_tensor(kinds: Kinds, call: ast.Call) -> bool:
    """Says whether `sort` is a tensor's, which makes another one: a list's takes no such arguments."""
    if call.args or any(one.arg not in ("key", "reverse") for one in call.keywords):
        return True
    return isinstance(call.func, ast.Attribute) and kinds.is_tensor(call.func.value)


def _is_of_new(code: Code, call: ast.Call) -> bool:
    """Says whether a call changes, at most, what the function itself made."""
    name = last_name(call.func)
    changes = name in _CHANGE or (name.endswith("_") and not name.endswith("__"))
    return changes and isinstance(call.func, ast.Attribute) and _is_new(code, call.func.value)


def _is_new(code: Code, expression: ast.expr) -> bool:
    """Says whether what an expression belongs to was made by the function itself."""
    while isinstance(expression, (ast.Attribute, ast.Subscript)):
        expression = expression.value
    if not isinstance(expression, ast.Name) or any(one.arg == expression.id for one in code.source.arguments):
        return isinstance(expression, ast.Call) and not isinstance(expression.func, ast.Attribute)
    given = [value for target, value, _ in code.source.given if getattr(target, "id", None) == expression.id]
    return not any(isinstance(value, (ast.Name, ast.Attribute, ast.Subscript, ast.IfExp)) for value in given)
