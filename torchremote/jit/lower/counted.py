"""Lowers the module that stands before a hosted one, and counts its calls: see runtime/counting.py.

An owner that counts puts it into the table in the place of the hosted module, which it calls. Without counting, there
is no trace of it, so that costs nothing.
"""

from __future__ import annotations

from typing import Final

from ..read.model import Interface, Method
from . import ir
from .names import Names
from .source_names import SourceNames
from .units import SELF, unit

COUNTED: Final = "_torchremote_counted"
COUNTS: Final = "_torchremote_counts"
"""The attributes with the module whose calls are counted, and with what they are counted in."""


def lower_counted(interface: Interface, source_names: SourceNames, native: bool) -> ir.Unit:
    """Lowers the unit of the module that counts.

    Args:
        native: whether the native part counts, in an object of its own. Otherwise torch's logger does, under keys.
    """
    parent = ir.Do(ir.called(ir.call("super"), "__init__"))
    nothing = ir.AssignAttribute(ir.Name("self"), COUNTS, ir.Literal(None if native else ""))
    methods = [ir.Function("__init__", (SELF,), None, (parent, nothing))]
    methods += [_lower_method(method, source_names, native) for method in interface.methods]
    fields = ((COUNTED, "ModuleInterface"), (COUNTS, "Any" if native else "str"))
    parts: list[ir.Definition] = [_lower_begin(source_names, native)]
    if native:
        parts.append(_lower_end(source_names))
    parts.append(ir.Module("CountedModule", tuple(methods), fields))
    return unit(interface, "counted", "A module that counts the calls of another one.", *parts)


# The methods have the arguments' own names, as those of the hosted module. Any other name may be hidden by one of them,
# but for those that `source_names` gives to functions.


def _lower_begin(source_names: SourceNames, native: bool) -> ir.Function:
    """Lowers the function that is called before a method."""
    counts, method = ir.Name("counts"), ir.Name("method")
    begun = ir.call("Counting", ir.Operation("+", counts, method))
    if native:
        begun = ir.Call(ir.native("begin_call"), (counts, method))
    parameters = (ir.Parameter(counts.id, "Any" if native else "str"), ir.Parameter(method.id, "str"))
    return ir.Function(source_names.begin_counting, parameters, "Any" if native else "Counting", (ir.Return(begun),))


def _lower_end(source_names: SourceNames) -> ir.Function:
    """Lowers the function that is called after a method, if the native part counts."""
    end = ir.Do(ir.Call(ir.native("end_call"), (ir.Name("call"),)))
    return ir.Function(source_names.end_counting, (ir.Parameter("call", "Any"),), "None", (end,))


def _lower_method(method: Method, source_names: SourceNames, native: bool) -> ir.Function:
    names = Names((argument.name for argument in method.arguments), frozenset())
    self, counting, result = ir.variables(names, "self", "counting", "result")
    parameters = [ir.Parameter(part.name, source_names.declared(part.type)) for part in method.arguments]
    values = ir.named(parameters)
    result_of_call = ir.assign(result, ir.called(ir.Attribute(self, COUNTED), method.name, *values))
    key = ir.Literal(method.name if native else f"{method.name} ")
    begin = ir.call(source_names.begin_counting, ir.Attribute(self, COUNTS), key)
    if native:
        end = ir.Do(ir.call(source_names.end_counting, counting))
        body: tuple[ir.Statement, ...] = (result_of_call, end)
    else:
        done = ir.AssignAttribute(counting, "done", ir.Literal(True))
        body = (ir.With(counting, (result_of_call, done)),)
    return ir.Function(
        method.name,
        (ir.Parameter(self.id), *parameters),
        source_names.declared(method.returns),
        (ir.assign(counting, begin), *body, ir.Return(result)),
    )
