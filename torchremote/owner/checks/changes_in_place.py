"""Refuses an assignment that changes a tensor in place in Python, and makes another one in TorchScript.

Note [Changes in place]
    `done |= new` changes the tensor in Python, as do `&=`, `^=` and `**=`. TorchScript writes `done = done | new`. So
    after `done = self.done`, the module's own tensor stays as it was. A view, `done = self.done[0]`, is no better.
    Names are followed in the order in which statements run, into functions to which the tensor is passed.

    With an index, `mask[0] |= new`, TorchScript drops the result, whoever has the tensor. An index that is a tensor or
    a list gives no view, and is right. The other operators, as `+=`, are in place in both, and
    `self.done |= new` assigns the attribute.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

import torch

from ...errors import CreationError
from .kinds import Kinds, may_be_torchs
from .scripted_code import Code, any_item
from .source import Given, given, given_by, is_taken

_METHODS: Final = {
    ast.BitOr: "bitwise_or_",
    ast.BitAnd: "bitwise_and_",
    ast.BitXor: "bitwise_xor_",
    ast.Pow: "pow_",
}
_VIEWS: Final = frozenset(
    "adjoint as_strided chunk data detach diagonal expand expand_as H imag mH moveaxis movedim mT narrow permute real "
    "select split squeeze swapaxes swapdims T t transpose unbind unflatten unfold unsqueeze view view_as".split()
)
_VIEWS_OF_WHOLE: Final = frozenset(("contiguous", "flatten", "ravel", "reshape"))
"""They give views of tensors whose memory is in order."""


def check_changes(kinds: Kinds) -> None:
    """Raises CreationError for such an assignment to a tensor that a module holds, with the line, and what to write.

    Also to a part of any tensor.
    """
    code = kinds.code
    for node in code.source.nodes:
        if isinstance(node, ast.AugAssign) and type(node.op) in _METHODS:
            match node.target:
                case ast.Subscript(value=value, slice=index) if kinds.is_tensor(value) and kinds.gives_view(index):
                    raise _error(code, node, "so the tensor would stay as it was")
    _Holding(kinds, set()).follow(code.source.body, set())


def _error(code: Code, node: ast.AugAssign, consequence: str) -> CreationError:
    written = f"{ast.unparse(node.target)}.{_METHODS[type(node.op)]}({ast.unparse(node.value)})"
    return code.refusal(node, f"does not change the tensor in place in TorchScript, {consequence}; write `{written}`")


class _Holding:
    """Follows the names that hold a tensor of the module, or a view of one, through a function."""

    def __init__(self, kinds: Kinds, seen: set[tuple[object, frozenset[str]]]) -> None:
        self._code = kinds.code
        self._kinds = kinds
        self._seen = seen  # functions that were followed, with the names before them
        self._left: set[str] = set()  # those where a loop was left, or went on

    def follow(self, statements: Iterable[ast.stmt], names: set[str]) -> set[str]:
        """Goes through statements, with those names before them. Returns the names after them."""
        for statement in statements:
            self._follow_calls(statement, names)
            match statement:
                case ast.Return() | ast.Raise():
                    return set()
                case ast.Break() | ast.Continue():
                    self._left |= names
                    return set()
                case ast.If(test=test, body=body, orelse=orelse):
                    taken = is_taken(test)
                    then = set() if taken is False else self.follow(body, names)
                    names = then if taken else then | self.follow(orelse, names)
                case ast.With(body=body):
                    names = self.follow(body, names)
                case ast.For(target=target, iter=iterated, body=body):
                    names = self._loop(body, names, list(given(target, iterated, True)))
                case ast.While(body=body):
                    names = self._loop(body, names, [])
                case ast.Assign() | ast.AnnAssign():
                    names = self._assign(list(given_by(statement)), names)
                case ast.AugAssign(target=ast.Name(name), op=operator) if name in names and type(operator) in _METHODS:
                    raise _error(self._code, statement, "so the module's own one would stay as it was")
        return names

    def _follow_calls(self, statement: ast.stmt, names: set[str]) -> None:
        """Follows the tensors that a statement itself passes to functions of the user's."""
        own = [one for one in ast.iter_child_nodes(statement) if not isinstance(one, ast.stmt)]
        for call in (node for one in own for node in ast.walk(one) if isinstance(node, ast.Call)):
            passed = [*enumerate(call.args), *((one.arg, one.value) for one in call.keywords)]
            held = {key for key, value in passed if self._is_held(value, names)}
            called = self._code.called(call.func) if held else None
            if called is not None:
                code, arguments = called
                inside = {one.arg for key, one in enumerate(arguments) if key in held or one.arg in held}
                if (code.function, frozenset(inside)) not in self._seen:
                    self._seen.add((code.function, frozenset(inside)))
                    _Holding(self._kinds.of(code), self._seen).follow(code.source.body, inside)

    def _loop(self, body: list[ast.stmt], names: set[str], targets: list[Given]) -> set[str]:
        outer, self._left = self._left, set()
        while True:  # a turn may use what the one before it assigned
            before = names
            names = names | self.follow(body, self._assign(targets, names)) | self._left
            if names == before:
                self._left = outer
                return names

    def _assign(self, pairs: list[Given], names: set[str]) -> set[str]:
        """Returns the names after an assignment."""
        held, others = set[str](), set[str]()
        for target, value, loops in pairs:
            is_held = self._is_held(any_item(value) if loops else value, names)
            for one in ast.walk(target):
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                    (held if is_held else others).add(one.id)
        return (names - others) | held

    def _is_held(self, value: ast.expr, names: set[str]) -> bool:
        """Says whether a value is a tensor of the module, or a view of one, if these names are."""
        match value:
            case ast.Name(name) if name in names:
                return True
            case ast.IfExp(test=test, body=body, orelse=orelse):
                taken = is_taken(test)
                return (taken is not False and self._is_held(body, names)) or (
                    not taken and self._is_held(orelse, names)
                )
            case ast.Subscript(value=viewed, slice=index) if self._is_held(viewed, names):
                return self._kinds.gives_view(index)
            case ast.Call(func=ast.Attribute(value=viewed, attr=name)) if self._code.value(value.func) is None:
                return self._is_view(name, viewed, names)
            case ast.Call(func=ast.Attribute(attr=name), args=[viewed, *_]) if may_be_torchs(
                self._code.value(value.func)
            ):
                return self._is_view(name, viewed, names)
            case ast.Attribute(value=viewed, attr=name) if name in _VIEWS and self._is_held(viewed, names):
                return True
        return isinstance(self._code.value(value), torch.Tensor)

    def _is_view(self, function: str, viewed: ast.expr, names: set[str]) -> bool:
        """Says whether a function of torch's gives a view of the module's tensor."""
        whole = self._code.value(viewed) if function in _VIEWS_OF_WHOLE else None
        is_view = function in _VIEWS or (isinstance(whole, torch.Tensor) and whole.is_contiguous())
        return is_view and self._is_held(viewed, names)
