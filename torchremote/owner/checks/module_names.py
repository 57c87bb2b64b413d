"""Refuses a name that TorchScript leaves with the module that it had before.

Note [Names of modules]
    In TorchScript, a local name for a module is no variable. A loop over a part of a container, as `self.layers[:2]`,
    and an assignment of several names do assign a variable, and the name still means the module that it had: the last
    layer runs twice. With a name that is new, TorchScript refuses these itself. An assignment of one name, and loops
    over whole containers, are right.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from ...errors import CreationError
from .scripted_code import Code


def check_names(code: Code) -> None:
    """Raises CreationError for such an assignment, with the line, and what to write."""
    given = [(target, name, _gives_variable(code, target, value)) for target, name, value in _assigned(code)]
    if not any(is_variable for _, _, is_variable in given):
        return
    times = Counter(name for _, name, _ in given)
    times.update(argument.arg for argument in code.source.arguments)
    for target, name, is_variable in given:
        if is_variable and times[name] > 1:
            raise CreationError(
                f"{code.place(target)}: `{name}` would still be the module that it was before, because TorchScript "
                "assigns no modules here; write each as `name = self.part`, with a name of its own, or call them one "
                "by one"
            )


def _assigned(code: Code) -> Iterator[tuple[ast.expr, str, ast.expr]]:
    """Yields the targets of assignments and loops, the names in them, and what each is given."""
    given: list[tuple[ast.expr, ast.expr | None]] = []
    compiled = {id(node) for node in code.source.nodes}
    for node in (inner for statement in code.source.body for inner in ast.walk(statement)):
        match node:
            case ast.Assign(targets=targets, value=value) if id(node) in compiled:
                given += [(target, value) for target in targets]
            case ast.AnnAssign(target=target, value=value) if id(node) in compiled:
                given.append((target, value))
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                given += [(target, value)] if id(value) in compiled else []
    for target, value in given:
        for name, inside in _names(target, value) if value is not None else ():
            yield target, name, inside


def _names(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)):
        are_pairs = isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts)
        values = value.elts if are_pairs and isinstance(value, (ast.Tuple, ast.List)) else [value] * len(target.elts)
        for one, other in zip(target.elts, values, strict=True):
            yield from _names(one, other)


def _gives_variable(code: Code, target: ast.expr, value: ast.expr) -> bool:
    """Says whether a name gets modules as a variable does."""
    match value:
        case ast.Subscript(value=whole, slice=ast.Slice()):
            return bool(code.modules(whole, scripted=True))
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return any(code.modules(item, scripted=True) for item in items)
        case ast.Call(func=ast.Name("enumerate" | "reversed" | "zip"), args=arguments):
            return any(_gives_variable(code, value, one) for one in arguments)
        case ast.Call():  # a loop over a whole container
            return False
    return isinstance(target, (ast.Tuple, ast.List)) and bool(code.modules(value, scripted=True))
