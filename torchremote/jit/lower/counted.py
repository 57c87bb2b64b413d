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
from .units import SELF, renamed, unit

COUNTED: Final = "_torchremote_counted"
COUNTS: Final = "_torchremote_counts"
"""The attributes with the module whose calls are counted, and with what they are counted in."""


def lower_counted(interface: Interface, source_names: SourceNames, native: bool = False) -> ir.Unit:
    """Lowers the unit of the module that counts.

    Args:
        native: whether the native part counts, in an object of its own. Otherwise torch's logger does, under keys.
    """
    parent = ir.Do(ir.Call(ir.Attribute(ir.Call(ir.Name("super")), "__init__")))
    nothing = ir.AssignAttribute(ir.Name("self"), COUNTS, ir.Literal(None if native else ""))
    methods = [ir.Function("__init__", (SELF,), None, (parent, nothing))]
    methods += [_lower_method(method, source_names, native) for method in interface.methods]
    fields = ((COUNTED, "ModuleInterface"), (COUNTS, "Any" if native else "str"))
    module = ir.Module("CountedModule", tuple(methods), fields)
    return unit(interface, "counted", "A module that counts the calls of another one.", module)


def _lower_method(method: Method, source_names: SourceNames, native: bool) -> ir.Function:
    names = Names(argument.name for argument in method.arguments)
    self, counting, result = (ir.Name(names.fresh(name)) for name in ("self", "counting", "result"))
    parameters = renamed(method, Names(), [source_names.declared(argument.type) for argument in method.arguments])
    call = ir.Call(
        ir.Attribute(ir.Attribute(self, COUNTED), method.name), tuple(ir.Name(one.name) for one in parameters)
    )
    counts, result_of_call = ir.Attribute(self, COUNTS), ir.Assign((result.id,), call)
    if native:
        begin = ir.Call(ir.native("begin_call"), (counts, ir.Literal(method.name)))
        end = ir.Do(ir.Call(ir.native("end_call"), (counting,)))
        body: tuple[ir.Statement, ...] = (ir.Assign((counting.id,), begin), result_of_call, end)
    else:
        key = ir.Concatenation(counts, ir.Literal(f"{method.name} "))
        done = ir.AssignAttribute(counting, "done", ir.Literal(True))
        begin = ir.Call(ir.Name("Counting"), (key,))
        body = (ir.Assign((counting.id,), begin), ir.With(counting, (result_of_call, done)))
    return ir.Function(
        method.name,
        (ir.Parameter(self.id), *parameters),
        source_names.declared(method.returns),
        (*body, ir.Return(result)),
    )
