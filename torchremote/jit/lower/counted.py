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
KEY: Final = "_torchremote_key"
"""The attributes with the module whose calls are counted, and with what its keys begin with."""


def lower_counted(interface: Interface, source_names: SourceNames) -> ir.Unit:
    """Lowers the unit of the module that counts."""
    init = ir.Name("self")
    parent = ir.Do(ir.Call(ir.Attribute(ir.Call(ir.Name("super")), "__init__")))
    no_key = ir.AssignAttribute(init, KEY, ir.Literal(""))
    methods = [ir.Function("__init__", (SELF,), None, (parent, no_key))]
    methods += [_lower_method(method, source_names) for method in interface.methods]
    fields = ((COUNTED, "ModuleInterface"), (KEY, "str"))
    module = ir.Module("CountedModule", tuple(methods), fields)
    return unit(interface, "counted", "A module that counts the calls of another one.", module)


def _lower_method(method: Method, source_names: SourceNames) -> ir.Function:
    names = Names(argument.name for argument in method.arguments)
    self, counting, result = (ir.Name(names.fresh(name)) for name in ("self", "counting", "result"))
    parameters = renamed(method, Names(), [source_names.declared(argument.type) for argument in method.arguments])
    call = ir.Call(
        ir.Attribute(ir.Attribute(self, COUNTED), method.name), tuple(ir.Name(one.name) for one in parameters)
    )
    key = ir.Concatenation(ir.Attribute(self, KEY), ir.Literal(f"{method.name} "))
    done = ir.AssignAttribute(counting, "done", ir.Literal(True))
    return ir.Function(
        method.name,
        (ir.Parameter(self.id), *parameters),
        source_names.declared(method.returns),
        (
            ir.Assign((counting.id,), ir.Call(ir.Name("Counting"), (key,))),
            ir.With(counting, (ir.Assign((result.id,), call), done)),
            ir.Return(result),
        ),
    )
