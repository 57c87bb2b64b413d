"""How many gathered calls a second, beside TorchRL's ProcessInferenceServer? The owner's Python idle, and busy.

The network and the loops are those of gathering.py. TorchRL takes requests by each of its transports between processes.
"""

from __future__ import annotations

import torch
import torch.distributed.rpc as rpc

import torchremote

from . import peers
from .busy_owner import start_being_busy, stop_being_busy
from .findings import Findings, Target
from .gathering import GATHERED, IN_FLIGHT, MANY, ONE, PYTHON, WIDTH, Network, Rows, Window, from_python, rate
from .timing import Block, interleave

PEER = "torchrl"
SHARED, SLOTS, QUEUES = (
    f"TorchRL, {transport}" for transport in ("SharedMemoryTransport", "ProcessSlotTransport", "MPTransport")
)
BURSTS, BUSY = f"bursts of {IN_FLIGHT}", "busy"  # how the peer calls its kinds of work, too
TARGETS = (
    Target(f"{GATHERED}: {MANY}", f"{SHARED}: {MANY}", 1.1, at_least=True),
    Target(f"{GATHERED}: {PYTHON}", f"{SHARED}: {MANY}", 1.1, at_least=True),
    Target(f"{GATHERED}: {BURSTS}", f"{SHARED}: {BURSTS}", 1.1, at_least=True),
    Target(f"{GATHERED}: {ONE}", f"{SHARED}: {ONE}", 1.1, at_least=True),
    Target(f"{GATHERED}: {MANY}", f"{QUEUES}: {MANY}", 5, at_least=True),
    Target(f"{GATHERED}: {BURSTS}", f"{QUEUES}: {BURSTS}", 5, at_least=True),
    Target(f"{GATHERED}: {MANY}", f"{SLOTS}: {MANY}", 1.1, at_least=True),
    Target(f"{GATHERED}: {BURSTS}", f"{SLOTS}: {BURSTS}", 1.1, at_least=True),
    Target(f"{GATHERED}: {MANY}, {BUSY}", f"{SHARED}: {MANY}, {BUSY}", 20, at_least=True),
    Target(f"{GATHERED}: {ONE}, {BUSY}", f"{SHARED}: {ONE}, {BUSY}", 20, at_least=True),
)
NOTES = (
    f"A network of {WIDTH}, {2 * WIDTH}, {WIDTH}, one row a call, at most {IN_FLIGHT} a batch, one thread a process.",
    "TorchRL's clients are used from one thread of one process, which submits requests and waits for their Futures in "
    f"order. A ProcessSlotTransport's client has one request in flight, so {IN_FLIGHT} of them take turns.",
    f"{IN_FLIGHT} in flight: a new call is made when the oldest is answered. Bursts: {IN_FLIGHT} are made at once, and "
    "all of them are waited for before the next.",
    "TorchRL's statistics and policy versions are switched off, which makes it faster.",
    "Busy: two threads compute in Python in the process that has the network.",
)


def measure(quick: bool) -> Findings:
    question = "Gathered calls, beside TorchRL"
    x = torch.randn(1, WIDTH)
    stub = torchremote.create("owner", Rows, Network, gather=IN_FLIGHT)
    window = torch.jit.script(Window(stub))
    many, one = rate(lambda calls: window(x, calls, IN_FLIGHT), 750), rate(lambda calls: window(x, calls, 1), 75)

    def bursts(calls: int) -> None:
        for _ in range(calls // IN_FLIGHT):
            window(x, IN_FLIGHT, IN_FLIGHT)

    blocks: dict[str, Block] = {
        f"{GATHERED}: {MANY}": many,
        f"{GATHERED}: {BURSTS}": rate(bursts, 12 * IN_FLIGHT),
        f"{GATHERED}: {PYTHON}": rate(lambda calls: from_python(stub, x, calls), 750),
        f"{GATHERED}: {ONE}": one,
        f"{GATHERED}: {MANY}, {BUSY}": _while_busy(many),
        f"{GATHERED}: {ONE}, {BUSY}": _while_busy(one),
    }
    # Calls of a round, with --quick.
    amounts = {
        **{f"{transport}: {MANY}": 750 for transport in (SHARED, SLOTS)},
        **{f"{transport}: {BURSTS}": 12 * IN_FLIGHT for transport in (SHARED, SLOTS)},
        **{f"{transport}: {ONE}": 75 for transport in (SHARED, SLOTS, QUEUES)},
        **{f"{transport}: {MANY}, {BUSY}": 2 * IN_FLIGHT for transport in (SHARED, SLOTS)},
        **{f"{transport}: {ONE}, {BUSY}": 3 for transport in (SHARED, SLOTS)},
        f"{QUEUES}: {MANY}": 150,
        f"{QUEUES}: {BURSTS}": 5 * IN_FLIGHT,
    }
    try:
        with peers.running(PEER) as peer, torch.no_grad():
            for contender, amount in amounts.items():
                blocks[contender] = _times(peer(contender.removeprefix("TorchRL, ")), amount)
            rounds = interleave(blocks, rounds=7 if quick else 15, calls=1 if quick else 2, warm_up=1)
    except peers.Missing as missing:
        return Findings(question, "calls/s", 1, {}, left_out={"TorchRL": str(missing)})
    return Findings(question, "calls/s", 1, rounds, TARGETS, notes=NOTES)


def _times(block: Block, amount: int) -> Block:
    return lambda calls: block(amount * calls)


def _while_busy(block: Block) -> Block:
    """Measures while the owner's Python is busy. See busy_owner.py on the time that its threads need to spread."""

    def measure(calls: int) -> list[float]:
        rpc.rpc_sync("owner", start_being_busy)
        block(2)
        found = block(calls)
        rpc.rpc_sync("owner", stop_being_busy)
        return found

    return measure
