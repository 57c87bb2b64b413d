"""Lowers how a link sends a call and waits for it: by TorchScript's own rpc_async, or by the native part.

Note [Native calls]
    TorchScript's rpc_async takes the caller's GIL once a call, so a thread that holds it stops all calls. The native
    part (native/caller.cpp) has an operator that does not. It sends the same message to the same endpoint, so an owner
    cannot tell the two apart.

    Where TorchScript waits for a Future, it goes on in another thread, and the switch costs some 30 us. A thread of
    Python's waits for the whole of what it called, whoever goes on. So before a stub waits, it tells its link, and with
    the native part the link waits there and then. The wait that follows finds the answer, and switches nothing.

    The link of a module with a name has a route of the native part, by which its calls follow the module: see
    caller/finding/failed_calls.py.

    Only the class of a connected link names these operators. An archive has the interface of links alone, so it can be
    loaded where there is no native part.

Note [Results on an accelerator]
    With a device map, a result is there when its copying has begun, in a stream of its own. A wait in Python or C++ has
    the current stream wait for that one. TorchScript's own wait does not. So before a stub waits in TorchScript, its
    link waits for the answer, and then until the devices have done their work. TorchScript has that operator if torch
    was built with CUDA, and the devices of device maps are always CUDA's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..read.model import RESERVED_PREFIX, Interface, Method
from . import ir
from .names import Names
from .source_names import SourceNames, endpoint
from .units import SELF, endpoint_name

WAIT_HERE: Final = f"{RESERVED_PREFIX}_wait_here"
_PENDING: Final = ir.Parameter("pending", "Future[Any]")
WAIT_HERE_PARAMETERS: Final = (SELF, _PENDING)


@dataclass(frozen=True)
class Sending:
    """The way in which the links of an interface send, and wait.

    Attributes:
        native: whether the native part sends and waits.
        cuda: torch has operators for CUDA.
    """

    interface: Interface
    source_names: SourceNames
    native: bool
    cuda: bool

    def send(
        self,
        method: Method,
        values: list[ir.Expression],
        worker: ir.Expression,
        timeout: ir.Expression,
        route: ir.Expression,
    ) -> ir.Expression:
        """Returns the expression that sends a call and gives its Future.

        Args:
            route: the native part's own, by which calls follow their module.
        """
        if not self.native:
            arguments = (worker, ir.Name(endpoint(method)), ir.TupleOf(tuple(values)), ir.Empty("{}"), timeout)
            return ir.called(ir.Name("rpc"), "rpc_async", *arguments)
        like = ir.annotated(f"List[{self.source_names.wire(method.returns)}]", ir.Empty("[]"))
        name = ir.Literal(endpoint_name(self.interface, method))
        return ir.Call(ir.native("send"), (worker, name, timeout, like, route, *values))

    def lower_wait_here(self, devices: ir.Expression) -> ir.Function:
        """Lowers the method of links that is called before a stub waits for the answer of a call.

        Args:
            devices: those in the caller's device map.
        """
        pending = ir.Name(_PENDING.name)
        body: ir.Statement = ir.Pass()
        if self.cuda:
            wait = ir.Do(ir.called(pending, "wait"))
            body = ir.If(self._is_mapped(devices), (wait, self._synchronize(devices, "device")))
        if self.native:
            waits = ir.Call(ir.native("wait_here"), (pending,))
            body = ir.If(ir.negated(waits), (body,))
        return ir.Function(WAIT_HERE, WAIT_HERE_PARAMETERS, "None", (body,))

    def lower_arrival(self, devices: ir.Expression, names: Names) -> tuple[ir.Statement, ...]:
        """Lowers what waits until the devices have what an answer brought, behind a wait in TorchScript."""
        if not self.cuda:
            return ()
        return (ir.If(self._is_mapped(devices), (self._synchronize(devices, names.fresh("device")),)),)

    @staticmethod
    def _is_mapped(devices: ir.Expression) -> ir.Expression:
        return ir.Operation("!=", ir.length(devices), ir.Literal(0))

    @staticmethod
    def _synchronize(devices: ir.Expression, name: str) -> ir.Statement:
        return ir.For((name,), devices, (ir.Do(ir.Call(ir.operator_of("cuda", "synchronize"), (ir.Name(name),))),))
