"""Chooses the names in generated source: those of types, as TorchScript reads them, and of an interface's functions.

The model's own text, on which caller and owner agree, has an enum's dotted path, and calls a dtype a dtype. Generated
source has a short name for a class, and calls a dtype an integer, as TorchScript does.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..read.literals import MemberValue, NamedTupleValue, Value
from ..read.model import Interface, Method
from ..read.types import (
    NONE,
    DictType,
    EnumType,
    ListType,
    NamedTupleType,
    OptionalType,
    RRefType,
    ScalarType,
    TupleType,
    Type,
    UnionType,
)
from .names import TAKEN, Names
from .plan import wire_type


def endpoint(method: Method) -> str:
    """Returns the name of a method's endpoint in its unit."""
    return f"_remote_{method.name}"


class SourceNames:
    """Names the types of an interface, and its functions, in the source that is generated for it."""

    def __init__(self, interface: Interface) -> None:
        methods, types = interface.messages, interface.named_types
        arguments = {argument.name for method in methods for argument in method.arguments}
        # Methods of a stub keep their arguments' names, so no function or class may have one of these.
        endpoints = {endpoint(method) for method in methods}
        names = Names(arguments | endpoints)
        self.classes = {named: names.fresh(named.name.rpartition(".")[2]) for named in types}
        enums = [named for named in self.classes if isinstance(named, EnumType)]
        self.pack = {enum: names.fresh(f"pack_{self.classes[enum]}") for enum in enums}
        self.unpack = {enum: names.fresh(f"unpack_{self.classes[enum]}") for enum in enums}
        self.send = {method.name: names.fresh(f"send_{method.name}") for method in methods}
        results = dict.fromkeys(method.returns for method in methods)  # methods with one type of results share these
        self.receive = {kind: names.numbered("receive") for kind in results}
        self.defer = {kind: names.numbered("defer") for kind in results}
        self.run = {method.name: names.fresh(f"_run_{method.name}") for method in methods}
        self.in_turn = {method.name: names.fresh(f"in_turn_{method.name}") for method in methods}
        self.forked = {method.name: names.fresh(f"forked_{method.name}") for method in methods}
        self.in_parts = {method.name: names.fresh(f"in_parts_{method.name}") for method in methods}
        self.tensors = {method.name: names.fresh(f"tensors_{method.name}") for method in methods}
        self.alike = {method.name: names.fresh(f"alike_{method.name}") for method in methods}
        self.join = {method.name: names.fresh(f"join_{method.name}") for method in methods}
        self.split = {method.name: names.fresh(f"split_{method.name}") for method in methods}
        self.group = {method.name: names.fresh(f"Group_{method.name}") for method in interface.methods}
        self.find = {method.name: names.fresh(f"find_{method.name}") for method in interface.methods}
        self.gathered = {method.name: names.fresh(f"_gathered_{method.name}") for method in interface.methods}
        self.batch = {method.name: names.fresh(f"batch_{method.name}") for method in interface.methods}
        self.queue = {method.name: names.fresh(f"queue_{method.name}") for method in methods}
        self.by_itself = {method.name: names.fresh(f"by_itself_{method.name}") for method in methods}
        translating, calling = (self.pack, self.unpack), (self.send, self.receive, self.defer, self.in_parts)
        joining = (self.tensors, self.alike, self.join, self.split)
        gathering = (self.group, self.find, self.gathered, self.batch, self.queue, self.by_itself)
        functions = (*translating, *calling, *joining, *gathering, self.run, self.in_turn, self.forked)
        self.begin_counting, self.end_counting = names.fresh("begin_counting"), names.fresh("end_counting")
        of_counting = (self.begin_counting, self.end_counting)
        self._globals = TAKEN.union(
            endpoints, self.classes.values(), of_counting, *(each.values() for each in functions)
        )

    def scope(self, taken: Iterable[str] = ()) -> Names:
        """Opens a function's scope inside the globals of generated source. `taken`: names that are in it already."""
        return Names(taken, self._globals)

    def declared(self, kind: Type) -> str:
        """Writes a type as the module sees it."""
        match kind:
            case EnumType() | NamedTupleType():
                return self.classes[kind]
            case ScalarType("dtype"):
                return "int"
            case ScalarType("device"):
                return "torch.device"
            case OptionalType(UnionType(items)):
                return f"Union[{', '.join(map(self.declared, (*items, NONE)))}]"
            case OptionalType(item):
                return f"Optional[{self.declared(item)}]"
            case ListType(item):
                return f"List[{self.declared(item)}]"
            case RRefType(item):
                return f"RRef[{self.declared(item)}]"
            case DictType(key, value):
                return f"Dict[{self.declared(key)}, {self.declared(value)}]"
            case UnionType(items):
                return f"Union[{', '.join(map(self.declared, items))}]"
            case TupleType(items):
                return f"Tuple[{', '.join(map(self.declared, items)) or '()'}]"
        return str(kind)

    def wire(self, kind: Type) -> str:
        """Writes the wire type of a type."""
        return self.declared(wire_type(kind))

    def default(self, value: Value) -> Value:
        """Returns a default with the source's names for its classes."""
        match value:
            case tuple():
                return tuple(map(self.default, value))
            case MemberValue(path, name):
                return MemberValue(self._class(path), name)
            case NamedTupleValue(path, items):
                return NamedTupleValue(self._class(path), tuple(map(self.default, items)))
        return value

    def _class(self, path: str) -> str:
        return next(name for named, name in self.classes.items() if named.name == path)
