"""Lowers the captured graphs of a module to one generated module, and has it scripted.

For every graph there is a method that runs it. The interface's method calls it. If there are several, it asks each
what is wrong with the arguments, and calls the first that finds nothing.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from ... import _torch
from ...errors import CreationError, InternalError, MismatchError
from ..lower import SourceNames, ir
from ..lower.names import Names
from ..lower.units import SELF, renamed
from ..read.literals import MemberValue
from ..read.model import REQUIRED, Interface, Method, Required
from ..read.types import DictType, EnumType, ListType, NamedTupleType, OptionalType, TupleType, Type
from ..runtime import definitions
from ..runtime.exported import OTHERWISE
from ..script.cache import compiling
from ..script.compile import script
from ..script.emit import emit
from .capture import Captured
from .compiled import run_package
from .graph import Lowering
from .guards import Fail, Guards
from .holder import Holder, in_ascii
from .joined import LIMITS, lower_limits
from .modes import COMPILED, MIXED, MODE_NAMES, MODES, PartModes, other_mode, set_parts, written
from .operators import NEGATIVE_ZERO, NONES, Operators
from .reasons import ON_OBJECTS
from .values import Constant, Leaf, Several, Tree

NAMED_DEVICES: Final = "torchremote_devices"
STATE: Final = "torchremote_state"
"""Attributes of every exported module: the devices that its graphs name, and what is noted of its state."""


def is_compiled(module: torch.nn.Module) -> bool:
    """Says whether AOTInductor compiled a module."""
    return bool(getattr(module, COMPILED, False))


@dataclass(frozen=True)
class Graphs:
    """The graphs of one mode of a module, by method."""

    training: bool
    of_methods: Mapping[str, Sequence[Captured]]
    of_parts: PartModes = field(default_factory=PartModes)


class ModuleLowering:
    """Lowers graphs to a generated module.

    Args:
        title: the name of the original's class.
        holder: has the original's parameters and buffers.
        takes: what a module is exported with, for errors: "an example" of a call, or "a program".
    """

    def __init__(self, interface: Interface, title: str, holder: Holder, takes: str) -> None:
        self._interface = interface
        self._source_names = SourceNames(interface)
        self._title = title
        self._remedy = f"if the module can run such a call, whoever exported it can give {takes} of one, too"
        self._holder = holder
        self._methods: list[ir.Function] = []
        self._operators = Operators("")

    def script(self, modes: Sequence[Graphs], defined: Mapping[str, Any]) -> torch.jit.ScriptModule:
        """Compiles the module. `defined`: the definitions of the interface's contract, by name.

        Raises:
            MismatchError: a method of the interface has the name of a part, parameter or buffer of the module.
        """
        for method in self._interface.methods:
            if method.name in self._holder.names:
                raise MismatchError(
                    f"{self._interface.name}.{method.name}: {self._title} has a part or tensor of that name, which its "
                    "state_dict shows; give that another name, and have a method of this name call it"
                )
        scripted, text = self._script(modes, defined)
        misread = self._misread(scripted)
        if misread:  # with their names and types, arguments fit one overload alone
            self._operators.by_keyword.update(misread)
            with suppress(CreationError):  # some operators have an overload that TorchScript does not know
                scripted, text = self._script(modes, defined)
                misread = self._misread(scripted)
        for operator, overload in misread.items():
            wanted = [one for known, one in self._operators.expected if known == operator]
            raise CreationError(
                f"{self._title}: TorchScript takes {operator} for the overload {overload or 'default'!r}, and the "
                f"graph has {', '.join(map(repr, wanted))}; compute that part with other operators, or leave it out of "
                "the method"
            )
        self._holder.hide(scripted)
        _sources[scripted] = text
        return scripted

    def _script(self, modes: Sequence[Graphs], defined: Mapping[str, Any]) -> tuple[torch.jit.ScriptModule, str]:
        """Lowers the graphs, and compiles the text. Returns the text, too."""
        methods = [method.name for method in self._interface.methods]
        attributes = (MODES, MIXED, NAMED_DEVICES, COMPILED, STATE, LIMITS, NEGATIVE_ZERO, *NONES.values(), "training")
        self._names = Names({*self._holder.names, *methods, *attributes})
        self._methods = []
        self._operators.expected.clear()
        for method in self._interface.methods:
            self._lower_method(method, modes)
        self._methods += lower_limits(_graphs_of(methods, modes))
        name = self._source_names.scope(self._holder.names).fresh(_class_name(self._title))
        fields = [(MODES, "str"), (NAMED_DEVICES, "str"), (COMPILED, "bool"), (STATE, "str")]
        mixed = written({graphs.training: graphs.of_parts for graphs in modes})
        fields += [(MIXED, "str")] * bool(mixed)
        fields += [(NEGATIVE_ZERO, "float")] * self._operators.has_negative_zero
        fields += self._operators.nones.items()
        fields += [(constant, "Tensor") for constant in self._holder.constants]
        unit = ir.Unit(
            f"__torch__.torchremote.exported.{self._interface.name}_{self._interface.digest}",
            f"<torchremote exported {self._title} for {self._interface.name}>",
            f"{self._title}, exported for the methods of {self._interface.name}.\n\n{self._interface.text}",
            (*definitions("exported"), ir.Module(name, tuple(self._methods), tuple(fields))),
        )

        def fill(module: torch.nn.Module) -> None:
            self._holder.fill(module)
            set_parts(module, modes[0].training, modes[0].of_parts)
            setattr(module, MODES, " and ".join(MODE_NAMES[graphs.training] for graphs in modes))
            if mixed:
                setattr(module, MIXED, mixed)
            setattr(module, NAMED_DEVICES, " ".join(sorted(self._operators.devices)))
            setattr(module, COMPILED, self._holder.is_compiled)
            setattr(module, STATE, "")
            if self._operators.has_negative_zero:
                setattr(module, NEGATIVE_ZERO, -0.0)
            for none in self._operators.nones:
                setattr(module, none, None)

        source = emit(unit)
        with compiling():
            try:
                scripted: torch.jit.ScriptModule = script(unit, source, around=defined, fill=fill)[name]
            except InternalError as error:
                raise CreationError(f"{self._title}: TorchScript does not take its exported graph: {error}") from error
        return scripted, source.text

    def _lower_method(self, method: Method, modes: Sequence[Graphs]) -> None:
        """Lowers a method of the interface, and those that run its graphs."""
        where = f"{self._interface.name}.{method.name}"
        parameters = self._declared(method)
        own = Names(parameter.name for parameter in parameters)
        this = own.fresh("self")
        self_name = ir.Name(this)
        in_modes: list[tuple[ir.Statement, ...]] = []
        for graphs in modes:
            prefix = f"run_{method.name}" if graphs is modes[0] else f"run_{method.name}_{MODE_NAMES[graphs.training]}"
            chosen = self._lower_graphs(method, graphs.of_methods[method.name], prefix, where, self_name, own)
            in_modes.append(tuple(chosen))
        first = modes[0].training
        if len(modes) == 1:
            said = other_mode(where, first, self._holder.is_compiled)
            in_modes.append((ir.Raise(ir.Literal(said)),))
        mode = ir.Attribute(self_name, "training")
        body = (ir.If(mode if first else ir.negated(mode), *in_modes),)
        returns = self._source_names.declared(method.returns)
        self._methods.append(ir.Function(method.name, (ir.Parameter(this), *parameters), returns, body))

    def _lower_graphs(
        self, method: Method, graphs: Sequence[Captured], prefix: str, where: str, this: ir.Name, own: Names
    ) -> list[ir.Statement]:
        """Lowers the graphs of a method in one mode. Returns the statements that choose one of them."""
        arguments = tuple(ir.Name(argument.name) for argument in method.arguments)
        alone = len(graphs) == 1
        chosen: list[ir.Statement] = []
        begin = f"{OTHERWISE}{where}: none of its {len(graphs)} graphs is right for this call:"
        said: ir.Expression = ir.Literal(begin)
        for number, captured in enumerate(graphs):
            run = self._names.fresh(prefix if alone else f"{prefix}_{number}")
            self._lower_graph(method, captured, run, where, checked=alone)
            call = ir.Return(ir.called(this, run, *arguments))
            if alone:
                return [call]
            ask = self._names.fresh(f"differs_{run}")
            self._lower_question(method, captured, ask, where)
            differs = ir.Name(own.fresh(f"differs_{number}"))
            chosen.append(ir.assign(differs, ir.called(this, ask, *arguments)))
            chosen.append(ir.If(ir.Operation("==", differs, ir.Literal("")), (call,)))
            said = ir.Operation("+", ir.Operation("+", said, ir.Literal(f"\n  {number}: ")), differs)
        return [*chosen, ir.Raise(ir.Operation("+", said, ir.Literal(f"\n{self._remedy}")))]

    def _lower_question(self, method: Method, captured: Captured, name: str, where: str) -> None:
        """Lowers the method that says how arguments differ from what a graph is right for."""
        names = self._source_names.scope(["self"])
        parameters = renamed(method, names, self._source_names.declared)
        guards = self._guards(captured, method, names, lambda said, _: ir.Return(said), where)
        body = (*guards.lower(parameters), ir.Return(ir.Literal("")))
        self._methods.append(ir.Function(name, (SELF, *parameters), "str", body))

    def _lower_graph(self, method: Method, captured: Captured, name: str, where: str, checked: bool) -> None:
        """Lowers the method that runs a graph. `checked`: it compares the arguments itself."""
        names = self._source_names.scope(["self"])
        parameters = renamed(method, names, self._source_names.declared)

        def fail(said: ir.Expression, another: bool) -> ir.Statement:
            said = ir.Operation("+", ir.Literal(f"{OTHERWISE}{where}: "), said)
            return ir.Raise(ir.Operation("+", said, ir.Literal(f"; {self._remedy}")) if another else said)

        guards = self._guards(captured, method, names, fail if checked else None, where)
        body = guards.lower(parameters)
        self._operators.where = where
        signature = captured.program.graph_signature
        inputs: dict[str, ir.Expression] = {
            name: guards.leaves[index] for index, name in enumerate(captured.inputs) if index in guards.leaves
        }
        state: dict[str, ir.Expression] = {}
        for spec in signature.input_specs:
            if spec.kind.name == "CUSTOM_OBJ":
                raise CreationError(f"{where}: its graph has an object that is no tensor. {ON_OBJECTS}")
            if spec.target is not None:
                held = self._held(spec, captured)
                if held is not None:
                    inputs[spec.arg.name] = state[spec.target] = held
        if captured.package is not None and captured.device is not None:
            package = self._holder.package(captured.package, captured.device)
            self._operators.devices.add(str(captured.device))
            outputs = run_package(captured, package, [inputs[name] for name in captured.inputs], names, body)
        else:
            lowering = Lowering(names, self._operators, inputs, self._holder.constant)
            outputs = lowering.region(captured.program.graph_module, None, body)
        results: list[ir.Expression] = []
        for spec, output in zip(signature.output_specs, outputs, strict=True):
            kind = spec.kind.name
            if kind == "USER_OUTPUT":
                results.append(output)
            elif kind in ("BUFFER_MUTATION", "USER_INPUT_MUTATION"):
                target = (inputs if kind == "USER_INPUT_MUTATION" else state)[spec.target]
                body.append(ir.Do(self._operators.aten("copy_", "", target, output)))
            else:
                raise self._operators.refused(f"an output of kind {kind}")
        written = self._result(captured.result, method.returns, results, names, body)
        returns = self._source_names.declared(method.returns)
        self._methods.append(ir.Function(name, (SELF, *parameters), returns, (*body, ir.Return(written))))

    def _guards(self, captured: Captured, method: Method, names: Names, fail: Fail | None, where: str) -> Guards:
        return Guards(captured, method, names, self._source_names, fail, where, self._holder.attribute)

    def _declared(self, method: Method) -> tuple[ir.Parameter, ...]:
        """Returns the parameters of the interface's method. Those at the end have their defaults."""
        parameters: list[ir.Parameter] = []
        ends = True
        for one in reversed(method.arguments):
            ends = ends and one.has_default
            default = (
                self._source_names.default(one.default) if ends and not isinstance(one.default, Required) else REQUIRED
            )
            parameters.append(ir.Parameter(one.name, self._source_names.declared(one.type), default))
        return tuple(reversed(parameters))

    def _held(self, spec: Any, captured: Captured) -> ir.Expression | None:
        """Returns the expression for a parameter, buffer or constant of a graph."""
        own = self._holder.attribute(captured.attributes[spec.arg.name])
        if own is not None:
            return own
        constant = captured.program.constants.get(spec.target)
        return self._holder.constant(constant) if isinstance(constant, torch.Tensor) else None

    def _result(
        self, tree: Tree, kind: Type, leaves: list[ir.Expression], names: Names, into: list[ir.Statement]
    ) -> ir.Expression:
        """Puts the result together."""
        match tree, kind:
            case _, OptionalType(item):
                value = ir.Literal(None) if tree == Constant(None) else self._result(tree, item, leaves, names, into)
                return self._typed(value, kind, names, into)
            case Leaf(index), _:
                return leaves[index]
            case Constant(value), EnumType():
                return ir.Literal(MemberValue(self._source_names.classes[kind], value.name))
            case Constant(value), _:
                return self._operators.constant(value)
            case Several(items, keys), DictType(_, item) if keys is not None:
                done = self._typed(ir.Empty("{}"), kind, names, into)
                for key, part in zip(keys, items, strict=True):
                    written = self._result(part, item, leaves, names, into)
                    into.append(ir.AssignItem(done, self._operators.constant(key), written))
                return done
            case Several(items), ListType(item):
                listed = tuple(self._result(part, item, leaves, names, into) for part in items)
                return self._typed(ir.ListOf(listed), kind, names, into)
            case Several(items), TupleType(kinds) | NamedTupleType(items=kinds):
                parts = tuple(self._result(p, item, leaves, names, into) for p, item in zip(items, kinds, strict=True))
                if isinstance(kind, NamedTupleType):
                    return ir.call(self._source_names.classes[kind], *parts)
                return ir.TupleOf(parts)
        raise AssertionError((tree, kind))

    def _typed(self, value: ir.Expression, kind: Type, names: Names, into: list[ir.Statement]) -> ir.Name:
        """Assigns a value to a variable that declares its type."""
        name = names.numbered("result")
        into.append(ir.Assign((name,), value, self._source_names.declared(kind)))
        return ir.Name(name)

    def _misread(self, scripted: torch.jit.ScriptModule) -> dict[str, str]:
        """Returns the operators that TorchScript took for another one of the same name: its overload, by name.

        Then it found the right one too few times. It counts aliases as one, such as `clip` with `clamp`.
        """
        names = {name for name, _ in self._operators.expected}
        found: Counter[tuple[str, str]] = Counter()
        for method in self._methods:
            found.update(one for one in _torch.operators_of(scripted, method.name) if one[0] in names)
        expected, loose = self._operators.expected, self._operators.loose
        missing = {name for name, _ in expected - found}
        return {name: overload for name, overload in found - expected if name in missing - loose}


_sources: weakref.WeakKeyDictionary[torch.nn.Module, str] = weakref.WeakKeyDictionary()


def source_of(scripted: torch.jit.ScriptModule) -> str | None:
    """Returns the text from which an exported module was compiled in this process."""
    return _sources.get(scripted)


def _graphs_of(methods: Sequence[str], modes: Sequence[Graphs]) -> dict[str, list[Captured]]:
    """Returns the graphs of each method in all modes."""
    return {name: [captured for graphs in modes for captured in graphs.of_methods[name]] for name in methods}


def _class_name(title: str) -> str:
    name = in_ascii(title)
    return name if name.isidentifier() else f"Exported_{name}"
