"""Which settings of RPC are fast, for which size of tensor? Pairs of processes with each of them take turns.

TensorPipe chooses one channel for a connection, whatever is sent: the first one of `_channels` that works between the
two workers. "basic" has tensors go in the stream of messages; with "cma", the receiver reads the memory of the sender,
which has to be on the same machine; "mpt_uv" has several TCP connections. torch's own order is cma, mpt_uv, basic.
"""

from __future__ import annotations

from contextlib import ExitStack

from .findings import Findings, Target
from .timing import Rounds
from .turns import Pair

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"4 KiB": 4 * KIB, "64 KiB": 64 * KIB, "256 KiB": 256 * KIB} | {
    f"{mib} MiB": mib * MIB for mib in (1, 4, 16, 64, 256)
}
SHARED, TCP, DEFAULT, LARGE = "shared memory", "TCP", "rpc_options()", "large_tensors"
# These are measured with every size.
CHANNELS: dict[str, dict[str, object]] = {
    f"{SHARED}, {DEFAULT}": {},
    f"{SHARED}, {LARGE}": {"large_tensors": True},
    f"{SHARED}, mpt_uv": {"_channels": ["mpt_uv", "basic"]},
    f"{TCP}, {DEFAULT}": {"shared_memory": False},
    f"{TCP}, {LARGE}": {"shared_memory": False, "large_tensors": True},
    f"{TCP}, mpt_uv": {"shared_memory": False, "_channels": ["mpt_uv", "basic"]},
}
THREADS: dict[str, dict[str, object]] = {f"{threads} threads": {"threads": threads} for threads in (2, 16, 64)}
ECHO, ONE_WAY = "echo", "one way"
IN_A_TURN = 64 * MIB  # bytes
ROUNDS = 25


def contender(name: str, direction: str, size: str) -> str:
    return f"{name}: {direction}, {size}"


# What large_tensors is for, and that the default is right for small tensors.
TARGETS = tuple(
    Target(
        contender(f"{transport}, {better}", direction, size), contender(f"{transport}, {other}", direction, size), bound
    )
    for transport in (SHARED, TCP)
    for better, other, direction, size, bound in (
        (DEFAULT, LARGE, ECHO, "4 KiB", 1.05),
        (DEFAULT, "mpt_uv", ECHO, "4 KiB", 0.5),
        (LARGE, DEFAULT, ONE_WAY, "16 MiB", 0.8),
        (LARGE, DEFAULT, ECHO, "64 MiB", 1.0),
        (LARGE, "mpt_uv", ECHO, "64 MiB", 1.0),
    )
)
GROUP = None  # it starts processes of its own


def measure(quick: bool) -> Findings:
    question = "A call with one tensor, by its size and the settings of RPC"
    if quick:
        return Findings(question, "us", 1e6, {}, left_out={"all": "they take ten minutes; `make bench` measures them"})
    found: Rounds = {}
    with ExitStack() as stack:
        every = {**CHANNELS, **THREADS}
        pairs = {name: stack.enter_context(Pair(options=options)) for name, options in every.items()}
        for pair in pairs.values():
            for work in ("linear", ECHO, ONE_WAY):
                pair.call(work, [4, 8], calls=1, warm_up=500)
        for number in range(ROUNDS):
            order = sorted(pairs, reverse=number % 2 == 1)
            for name in order:
                if name in THREADS:
                    found.setdefault(name, []).append(pairs[name].call("linear", [4, 8], calls=200, warm_up=20))
            for direction in (ECHO, ONE_WAY):
                for size, count in SIZES.items():
                    calls = max(1, min(100, IN_A_TURN // count))
                    for name in order:
                        if name in CHANNELS:
                            seconds = pairs[name].call(direction, [count // 4], calls, warm_up=1 + calls // 10)
                            found.setdefault(contender(name, direction, size), []).append(seconds)
    ordered = list(every)
    found = {name: found[name] for name in sorted(found, key=lambda name: ordered.index(name.partition(":")[0]))}
    return Findings(question, "us", 1e6, found, TARGETS)
