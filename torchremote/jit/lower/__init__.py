"""Lowers an interface and its plans to programs: the units of source that are then emitted.

Note [Units]
    Each unit is a namespace of its own in TorchScript. An interface has five units:

    * `enums` (enums.py): the functions that translate enums.
    * `table` (endpoints.py): the owner's table of modules.
    * `endpoints` (endpoints.py): the functions that a call runs on the owner first.
    * `link` (link.py): the classes through which a stub calls.
    * `stub` (stub.py): the interface under the class's own name, and the stub that implements it.

    All but the last depend on the canonical text alone. So every worker makes the same ones, and classes that differ
    only in their defaults share them. The stub unit is the caller's own. Text that depends on no interface is in two
    units that a process compiles once: `common` and `any` (units.py). More units are compiled when they are first used:
    calls whose results stay at the owner (references.py), and calls through RRefs (through_rref.py), which only the
    drop-in makes. Owners alone have those that run calls: `hosting` (hosting.py), `forked` (forked.py), `in_turn`
    (in_turn.py), and what gathers calls (gathering.py). Those that count calls have two more, `counting` and `counted`
    (counted.py).
"""

from __future__ import annotations

from .counted import COUNTED, COUNTS, lower_counted
from .endpoints import lower_endpoints, lower_table
from .enums import lower_enums
from .forked import lower_forked
from .gathering import lower_gathering
from .hosting import lower_hosting
from .in_turn import lower_in_turn
from .link import ADDRESS, ROUTE, lower_link, packed_name
from .references import lower_references, remote_name
from .source_names import SourceNames, endpoint
from .stub import lower_stub
from .through_rref import lower_through_rref, method_name
from .units import endpoint_name, lower_any, lower_common, lower_counting, scope_of
