"""Follows the names of a function: which kind each has where it is used."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable
from typing import Final

from .kinds_of_values import TENSOR, TENSOR_KINDS, TENSORS, either
from .source import Given, given, given_by, is_taken

Known = dict[str, str]
_ROUNDS: Final = 20  # a loop's names are known long before


class Names:
    """Knows the kinds of names. In a loop, and after branches, a name has the kind that all its values have."""

    def __init__(
        self,
        kind: Callable[[ast.expr], str | None],
        declared: Callable[[ast.expr], str | None],
        has_round: Callable[[ast.expr], bool],
    ) -> None:
        """Makes one that knows no names.

        Args:
            kind: that of an expression, as far as the names are known when it is called.
            declared: that of an annotation.
            has_round: says whether a loop over something is known to have a round.
        """
        self._kind, self._declared, self._has_round = kind, declared, has_round
        self._now: Known = {}
        self._used: dict[int, str | None] = {}  # by the id of the part of the source
        self._left: list[Known] = []  # what was known where a loop is left, or begins anew

    def kind(self, name: ast.Name) -> str | None:
        """Returns the kind that a name has where it is used."""
        return self._used[id(name)] if id(name) in self._used else self._now.get(name.id)

    def learn(self, name: str, kind: str | None) -> None:
        """Remembers that a name has a kind from here on. TorchScript does not let it have another type."""
        if kind is None and self._now.get(name) in TENSOR_KINDS:
            kind = TENSOR
        if kind is not None:
            self._now[name] = kind

    def follow(self, statements: list[ast.stmt]) -> bool:
        """Goes through statements. Says whether they end the function, or the round of a loop."""
        return any(self._follow(statement) for statement in statements)

    def _follow(self, statement: ast.stmt) -> bool:
        match statement:
            case ast.If(test=test, body=body, orelse=orelse):
                taken = is_taken(test)
                if taken is not None:
                    return self.follow(body if taken else orelse)
                self._read(test)
                before = dict(self._now)
                ends = self.follow(body)
                after, self._now = self._now, before
                if self.follow(orelse):
                    self._now = after
                    return ends
                self._now = self._now if ends else _of_both(after, self._now)
                return False
            case ast.For(target=target, iter=items, body=body):
                self._loop(body, items, list(given(target, items, True)))
            case ast.While(test=test, body=body):
                self._loop(body, test, [])
            case ast.With(items=managers, body=body):
                for one in managers:
                    self._read(one.context_expr)
                return self.follow(body)
            case ast.Break() | ast.Continue():
                self._left.append(dict(self._now))
                return True
            case ast.FunctionDef() | ast.ClassDef():
                pass
            case _:
                self._read(statement)
                self._assign(statement)
        return isinstance(statement, (ast.Return, ast.Raise))

    def _loop(self, body: list[ast.stmt], head: ast.expr, targets: list[Given]) -> None:
        outer = self._left
        for _ in range(_ROUNDS):
            before, self._left = dict(self._now), []
            self._read(head)
            self._learn_all(targets)
            if not self.follow(body):
                self._left.append(self._now)
            after = functools.reduce(_of_both, self._left) if self._left else before  # at the end of a round
            self._now = _of_both(before, after)
            if self._now == before:
                break
        if targets and self._has_round(head):
            self._now = after
        self._left = outer

    def _assign(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign():
                self._learn_all(list(given_by(statement)))
            case ast.AugAssign(target=ast.Name(name), op=operator, value=value):
                self.learn(name, self._kind(ast.BinOp(ast.Name(name, ast.Load()), operator, value)))
            case ast.AnnAssign(target=ast.Name(name), annotation=annotation, value=value):
                kind, declared = None if value is None else self._kind(value), self._declared(annotation)
                is_same = declared == TENSOR and kind in TENSOR_KINDS
                self.learn(name, kind if is_same or declared is None else declared)

    def _read(self, part: ast.AST) -> None:
        """Notes which kinds the names in a part of the source have there."""
        loops = [one for one in ast.walk(part) if isinstance(one, ast.comprehension)]
        for one in [None, *loops]:
            if one is not None:
                self._learn_all(list(given(one.target, one.iter, True)))
            for inner in ast.walk(part):
                if isinstance(inner, ast.Name):
                    self._used[id(inner)] = self._now.get(inner.id)

    def _learn_all(self, targets: Iterable[Given]) -> None:
        """Learns what one statement gives to each of its names, which may be one of several values."""
        kinds: dict[str, str | None] = {}
        for target, value, loops in targets:
            kind = self._kind(value)
            if loops:
                kind = TENSOR if kind == TENSORS else kind if kind in TENSOR_KINDS else None
            for name in [target] if isinstance(target, ast.Name) else ast.walk(target):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    one = kind if name is target else None
                    kinds[name.id] = either(kinds[name.id], one) if name.id in kinds else one
        for name_of, kind in kinds.items():
            self.learn(name_of, kind)


def _of_both(one: Known, other: Known) -> Known:
    """Returns what is known after one of two ways."""
    found = {**one, **other}
    for name in one.keys() & other.keys():
        kind = either(one[name], other[name])
        found[name] = other[name] if kind is None else kind
    return found
