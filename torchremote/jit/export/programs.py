"""Reads exported programs that somebody else captured: by torch.export.export, or torch.export.load.

A program knows its arguments as torch's pytrees, and the interface as types. Here the two are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch

from ... import _torch
from ...errors import MismatchError
from ..read.model import Argument, Interface, Method
from ..read.shown import repr_of, shown
from ..read.types import (
    TENSOR,
    DictType,
    ListType,
    NamedTupleType,
    OptionalType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
)
from .capture import Captured
from .values import Constant, Leaf, Several, Tree

_TRAINING: Final = ("train", "training", "use_input_stats")
_LEAVES: Final = {
    "TensorArgument": "Tensor",
    "SymIntArgument": "int",
    "SymFloatArgument": "float",
    "SymBoolArgument": "bool",
}
_NUMBERS: Final[dict[str, tuple[type, ...]]] = {"int": (int,), "float": (float, int), "bool": (bool,), "str": (str,)}


def read_program(program: Any, method: Method, where: str) -> Captured:
    """Reads a program for a method.

    Raises:
        MismatchError: it takes or returns something else than the method.
    """
    signature = program.graph_signature
    names, specs = _arguments(program)
    reader = _Reader([spec.arg for spec in signature.input_specs if spec.kind.name == "USER_INPUT"])
    order = _order(method, names, where)
    trees: dict[str, Tree] = {}
    for name, spec in zip(names, specs, strict=True):
        argument = method.arguments[order[name]]
        trees[argument.name] = reader.read(spec, argument.type, f"{where}.{argument.name}", f"L['{name}']")
    given = _Reader([spec.arg for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"], counts_all=True)
    result = given.read(program.call_spec.out_spec, method.returns, f"{where}.return", "")
    attributes = {spec.arg.name: spec.target for spec in signature.input_specs if spec.target is not None}
    paths, guards = reader.paths, _torch.guards_of(program)
    if "flat_args" not in names:  # that is what strict mode calls the list of all leaves
        paths, guards = reader.flat_paths | paths, tuple(map(reader.with_constants, guards))
    return Captured(
        program,
        tuple(trees[argument.name] for argument in method.arguments),
        result,
        tuple(reader.inputs),
        paths,
        guards,
        attributes,
    )


def state_of(program: Any) -> tuple[dict[str, torch.Tensor], dict[str, bool]]:
    """Returns the parameters and buffers of a program, and for each buffer whether state_dict has it."""
    state = dict(program.state_dict)
    buffers: dict[str, bool] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind.name == "BUFFER":
            buffers[spec.target] = bool(spec.persistent)
            if spec.target not in state:
                state[spec.target] = program.constants[spec.target]
    return state, buffers


def modes_in(program: Any) -> tuple[bool, list[str]]:
    """Says whether a program was exported in training mode: whether an operator of it is told so.

    Returns also the parts of a program in training mode, or the operators of the module itself, that are told that they
    are in evaluation.
    """
    is_training, in_evaluation = False, []
    for node in program.graph.nodes:
        if isinstance(node.target, _torch.OpOverload):
            schema = _torch.operator_schema(node.target)
            given = dict(zip((one.name for one in schema.arguments), node.args, strict=False))
            told = next((given[name] for name in _TRAINING if name in given), None)
            if told is True and given.get("running_mean", node) is not None:  # a norm without any is so in both
                is_training = True
            elif told is False:
                stack = node.meta.get("nn_module_stack") or {}
                in_evaluation.append(next((part for part, _ in reversed(stack.values()) if part), str(node.target)))
    return is_training, in_evaluation if is_training else []


def interface_of(program: Any, name: str) -> Interface:
    """Returns an interface with the one method `forward`, as a program has it.

    Raises:
        MismatchError: no interface can have what it takes or returns.
    """
    signature = program.graph_signature
    names, specs = _arguments(program)
    taken = iter([spec.arg for spec in signature.input_specs if spec.kind.name == "USER_INPUT"])
    given = iter([spec.arg for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"])
    declared = tuple(Argument(name, _type_of(spec, taken)) for name, spec in zip(names, specs, strict=True))
    return Interface(f"__torch__.{name}", (Method("forward", declared, _type_of(program.call_spec.out_spec, given)),))


def _arguments(program: Any) -> tuple[list[str], list[Any]]:
    """Returns the names of a program's arguments, and how torch takes each apart."""
    arguments, keywords = _children(program.call_spec.in_spec)
    named = _children(keywords)
    specs = [*_children(arguments), *named]
    names = list(program.module_call_graph[0].signature.forward_arg_names or ())
    if len(names) != len(specs):
        names = [f"arg{n}" for n in range(len(specs) - len(named))] + list(keywords.context)
    return names, specs


def _type_of(spec: Any, found: Iterator[Any]) -> Type:
    """Returns the type of a value in a pytree. `found`: what torch.export says of its leaves, in order."""
    if spec.is_leaf():
        leaf = next(found)
        value = getattr(leaf, "value", None)
        name = _LEAVES.get(type(leaf).__name__) or ("None" if value is None else type(value).__name__)
        return TENSOR if name == "Tensor" else ScalarType(name)
    children = [_type_of(child, found) for child in _children(spec)]
    if spec.type in (list, tuple):
        is_list = spec.type is list and len(set(children)) == 1
        return ListType(children[0]) if is_list else TupleType(tuple(children))
    names = _names_of(spec)
    if names is not None and len(set(children)) == 1 and all(isinstance(name, str) for name in names):
        return DictType(ScalarType("str"), children[0])
    raise MismatchError(
        f"a {spec.type.__name__} of {', '.join(map(str, children))}: write an interface that declares it"
    )


def _order(method: Method, names: Sequence[str], where: str) -> dict[str, int]:
    """Returns, for each argument of a program, which of the method's it is: that of its name, or of its place."""
    own = [argument.name for argument in method.arguments]
    order = {name: own.index(name) if name in own else place for place, name in enumerate(names)}
    if sorted(order.values()) != list(range(len(own))):
        raise MismatchError(f"{where}: the program takes {', '.join(names)}; expected\n  {method}")
    return order


class _Reader:
    """Takes a program's arguments, or its results, apart.

    Args:
        found: what torch.export says of each leaf, in order.
        counts_all: constants have an index, too, as in results.
    """

    def __init__(self, found: Sequence[Any], counts_all: bool = False) -> None:
        self._found: Iterator[Any] = iter(found)
        self._counts_all = counts_all
        self._index = 0
        self._place = 0  # among all leaves, constants too
        self._constants: dict[str, Any] = {}
        self.inputs: list[str] = []
        self.paths: dict[str, int] = {}
        self.flat_paths: dict[str, int] = {}  # those of strict mode

    def read(self, spec: Any, kind: Type, where: str, path: str) -> Tree:
        if isinstance(kind, OptionalType):
            return self.read(spec, kind.item, where, path)
        if spec.is_leaf():
            return self._leaf(next(self._found), kind, where, path)
        children = _children(spec)
        match kind:
            case ListType(item) if spec.type in (list, tuple, torch.Size):
                return Several(self._several(children, [item] * len(children), where, path, range(len(children))))
            case TupleType(items) if spec.type in (list, tuple) and len(children) == len(items):
                return Several(self._several(children, items, where, path, range(len(items))))
            case NamedTupleType(fields=fields):
                names = _names_of(spec)
                if names is None and spec.type is tuple and len(children) == len(fields):
                    names = [name for name, _ in fields]
                if names is not None:
                    kinds = dict(fields)
                    if set(names) <= set(kinds):
                        parts = self._several(children, [kinds[name] for name in names], where, path, names)
                        found = dict(zip(names, parts, strict=True))
                        return Several(tuple(found.get(name, Constant(None)) for name, _ in fields))
            case DictType(_, item):
                names = _names_of(spec)
                if names is not None:
                    return Several(self._several(children, [item] * len(names), where, path, names), tuple(names))
        raise MismatchError(f"{where}: the program has a {spec.type.__name__} of {len(children)}, which is no {kind}")

    def _several(
        self, children: list[Any], kinds: Sequence[Type], where: str, path: str, keys: Sequence[Any]
    ) -> tuple[Tree, ...]:
        return tuple(
            self.read(child, kind, f"{where}[{repr_of(key)}]", f"{path}[{repr_of(key)}]")
            for child, kind, key in zip(children, kinds, keys, strict=True)
        )

    def _leaf(self, found: Any, kind: Type, where: str, path: str) -> Tree:
        name = _LEAVES.get(type(found).__name__)
        index, flat_path = self._index, f"L['flat_args'][{self._place}]"
        self._place += 1
        if name is None and type(found).__name__ == "ConstantArgument":
            self._index += self._counts_all
            value = found.value
            allowed = _NUMBERS.get(str(kind), (type(value),))
            if value is not None and (isinstance(kind, TensorType) or not isinstance(value, allowed)):
                raise MismatchError(f"{where}: the program has {shown(value)}, which is no {kind}")
            self._constants[flat_path] = value
            return Constant(value)
        if name != str(kind if isinstance(kind, (TensorType, ScalarType)) else None):
            raise MismatchError(f"{where}: the program has a {name or type(found).__name__}, which is no {kind}")
        self._index += 1
        self.inputs.append(found.name)
        self.paths[path] = self.flat_paths[flat_path] = index
        return Leaf(index)

    def with_constants(self, guard: str) -> str:
        """Returns a guard of strict mode, which also asks of arguments that are constants, with their values."""
        for path, value in self._constants.items():
            guard = guard.replace(path, repr(value))
        return guard


def _names_of(spec: Any) -> list[Any] | None:
    """Returns the names of the children of a dict, NamedTuple or dataclass in a pytree."""
    count = len(_children(spec))
    if isinstance(spec.type, type) and issubclass(spec.type, tuple) and hasattr(spec.type, "_fields"):
        return list(spec.type._fields)
    context = spec.context
    if isinstance(context, (list, tuple)) and context and isinstance(context[0], (list, tuple)):
        context = context[0]  # of a dataclass: its fields, and those that are None
    if isinstance(spec.type, type) and issubclass(spec.type, Mapping) and len(context) != count:
        return None
    return list(context) if isinstance(context, (list, tuple)) and len(context) == count else None


def _children(spec: Any) -> list[Any]:
    return list(spec.children())
