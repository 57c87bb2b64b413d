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
        messages = interface.messages
        arguments = {argument.name for message in messages for argument in message.arguments}
        # Methods of a stub keep their arguments' names, so no function or class may have one of these.
        endpoints = {endpoint(message) for message in messages}
        names = Names(arguments | endpoints)

        def named_after(methods: Iterable[Method], prefix: str) -> dict[str, str]:
            return {method.name: names.fresh(f"{prefix}{method.name}") for method in methods}

        self.classes = {named: names.fresh(named.name.rpartition(".")[2]) for named in interface.named_types}
        enums = [named for named in self.classes if isinstance(named, EnumType)]
        self.pack = {enum: names.fresh(f"pack_{self.classes[enum]}") for enum in enums}
        self.unpack = {enum: names.fresh(f"unpack_{self.classes[enum]}") for enum in enums}
        self.send = named_after(messages, "send_")
        results = dict.fromkeys(message.returns for message in messages)  # those with one type of results share these
        self.receive = {kind: names.numbered("receive") for kind in results}
        self.defer = {kind: names.numbered("defer") for kind in results}
        self.run = named_after(messages, "_run_")
        self.in_turn = named_after(messages, "in_turn_")
        self.forked = named_after(messages, "forked_")
        self.in_parts = named_after(messages, "in_parts_")
        self.tensors = named_after(messages, "tensors_")
        self.alike = named_after(messages, "alike_")
        self.join = named_after(messages, "join_")
        self.split = named_after(messages, "split_")
        self.group = named_after(interface.methods, "Group_")
        self.find = named_after(interface.methods, "find_")
        self.gathered = named_after(interface.methods, "_gathered_")
        self.batch = named_after(interface.methods, "batch_")
        self.queue = named_after(messages, "queue_")
        self.by_itself = named_after(messages, "by_itself_")
        self.begin_counting, self.end_counting = names.fresh("begin_counting"), names.fresh("end_counting")
        self._globals = TAKEN.union(endpoints, names.claimed)

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
