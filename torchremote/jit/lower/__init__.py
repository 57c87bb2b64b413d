"""Interface and plans -> the units of source to emit. The one place where placements and defaults are settled.

Note [Units]
    An interface makes seven units, each a namespace of its own in TorchScript.

    * `types` (types.py): what translates values.
    * `table` (owner.py): what an owner keeps its modules in.
    * `wire` (wire.py): what a stub calls through.
    * `host`, `staged`, `mapped` (owner.py, connected.py): for a placement, the endpoints, which run on the owner, and
      the wire that calls them.
    * `stub` (stub.py): the interface under the class's own name, and the stub that implements it.

    All but the last depend on the canonical text alone, so every worker makes them alike, and classes that differ only
    in their defaults share them. The stub unit is the caller's own. What depends on no interface is in two units that a
    process compiles once: `tensors` and `anything` (common.py). Calls through RRefs (referring.py) are a unit
    for who asks for them.
"""

from __future__ import annotations

from .common import lower_any, lower_tensors
from .enums import lower_types
from .link import ADDRESS, WIRE, field, lower_wire, packed_name
from .owner import lower_placement, lower_table
from .scope import endpoint, endpoint_name, scope_of
from .stub import lower_stub
from .through_rref import lower_referring, method_name

__all__ = [
    "ADDRESS",
    "WIRE",
    "endpoint",
    "endpoint_name",
    "field",
    "lower_any",
    "lower_placement",
    "lower_referring",
    "lower_stub",
    "lower_table",
    "lower_tensors",
    "lower_types",
    "lower_wire",
    "method_name",
    "packed_name",
    "scope_of",
]
