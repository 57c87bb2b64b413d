"""Owners are killed and come back, again and again, while two callers call them from many threads each.

    python -m tests.groups.rounds --rounds 200 --page docs/rounds.md

Half of the threads of a caller call idempotent methods, which may never fail. The others may see ConnectionErrors of
calls that got lost. It tells of wrong values, of errors that may not be, and of calls that do not come back, and shows
memory, threads and files of the callers as the rounds go on.
"""

import argparse
import faulthandler
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from typing import Any

import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import native
from torchremote.errors import WireError

from .. import zoo
from ..owner_process import resident
from ..waiting import until
from . import roles
from .nursery import Nursery
from .test_follow import Holding, X
from .test_idempotent import Asking, Patient

OWNERS = ["ps0", "ps1"]
HUNG = 60.0
"""Seconds in which every thread has to get through with a call."""


class Callers:
    """The threads of one caller."""

    def __init__(self):
        once: dict[str, Any] = {"interface": zoo.Encoder, "name": "encoder", "timeout": 10}
        patient: dict[str, Any] = {"interface": Patient, "name": "encoder", "timeout": 50}
        self._model = torch.jit.script(Holding(tr.connect("ps0", **once)))
        follows, replicas = tr.connect("ps1", **patient), tr.connect(OWNERS, **patient)
        other, some = tr.connect("ps0", **once), tr.connect(OWNERS, **once)
        self.stop, self.wrong, self.threads = threading.Event(), [], []
        self.right, self.lost = Counter(), Counter()
        self._expected = roles.expected(X)
        self._start("idempotent, one stub", lambda: follows(X))
        self._start("idempotent, one stub, async", lambda: follows.forward_async(X).wait())
        self._start("idempotent, replicas", lambda: replicas(X))
        self._start("idempotent, replicas, async", lambda: replicas.forward_async(X).wait())
        self._start("idempotent, replicas, many", lambda: torch.stack(replicas.forward_many([(X,)] * 4)))
        self._start("replicas", lambda: some(X), recover=time.sleep)
        self._start("one stub", lambda: other(X), recover=time.sleep)
        self._start("scripted model", lambda: self._model(X), recover=self._reconnect, lost=(RuntimeError,))
        if native.available():
            asking = torch.jit.script(Asking(tr.connect("ps0", **patient)))
            self._start("idempotent, scripted model, native", lambda: asking(X))
        threading.Thread(target=self._watch, daemon=True).start()

    def _start(self, kind, call, recover=None, lost=(WireError,)):
        thread = threading.Thread(target=self._call, args=(kind, call, recover, lost), daemon=True)
        self.threads.append(thread)
        thread.start()

    def _call(self, kind, call, recover, lost):
        while not self.stop.is_set():
            try:
                result = call()
            except Exception as error:
                if recover is None or not isinstance(error, lost):
                    self.wrong.append(f"{kind}: {type(error).__name__}: {str(error)[:1000]}")
                    time.sleep(0.1)
                else:
                    self.lost[kind] += 1
                    recover(0.02)
                continue
            self.right[kind] += 1
            if not torch.equal(result, self._expected.expand_as(result)):
                self.wrong.append(f"{kind}: another value")

    def _reconnect(self, pause):
        try:
            tr.reconnect(self._model)
        except tr.TorchRemoteError:
            time.sleep(pause)

    def _watch(self):
        seen, since = Counter(), {}
        while not self.stop.wait(1):
            for kind, count in list(self.right.items()):
                if count != seen[kind]:
                    seen[kind], since[kind] = count, time.monotonic()
                elif time.monotonic() - since[kind] > HUNG:
                    self.wrong.append(f"{kind}: hangs")
                    faulthandler.dump_traceback(sys.stdout)
                    return

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(HUNG)
        self.wrong += ["a thread does not end" for thread in self.threads if thread.is_alive()]


_callers = []


def begin():
    _callers.append(Callers())


def end():
    """Stops calling. Returns what was wrong, and how many calls of each kind were right and lost."""
    callers = _callers.pop()
    callers.end()
    return callers.wrong, callers.right, callers.lost


def usage():
    """Returns this process's resident memory in MiB, how many threads it has, and how many open files."""
    return round(resident() / (1 << 20), 1), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def wrong_so_far():
    return list(_callers[-1].wrong)


def start_owner(nursery, name):
    """Starts an owner; again, if the hub has not noticed that the last one of its name has ended."""
    while True:
        owner = nursery.start(name, tr.group_address())
        until(lambda: owner.said() is not None, seconds=60)
        if not owner.said():
            rpc.rpc_sync(name, roles.serve_encoder)
            return owner


def run(nursery, rounds, seed=0, looks=None):
    """Runs rounds. Returns, for each caller, what was wrong, and the counts of right and lost calls.

    Args:
        looks: a list that gets the number of a round and what each caller uses, ten times.
    """
    draw = random.Random(seed)
    nursery.join("other")
    owners = {name: start_owner(nursery, name) for name in OWNERS}
    begin()
    rpc.rpc_sync("other", begin)
    for number in range(1, rounds + 1):
        time.sleep(draw.uniform(0.05, 0.5))
        name = draw.choice(OWNERS)
        owners[name].kill()
        if draw.random() < 0.5:  # otherwise the next one comes while the hub may not have noticed
            until(lambda name=name: name not in roles.members())
        owners[name] = start_owner(nursery, name)
        if looks is not None and number % max(1, rounds // 10) == 0:
            looks.append((number, usage(), rpc.rpc_sync("other", usage)))
            print(*looks[-1], flush=True)
        if wrong_so_far() or rpc.rpc_sync("other", wrong_so_far):
            break
    time.sleep(1)
    return {"main": end(), "other": rpc.rpc_sync("other", end, timeout=10 * HUNG)}


def page(rounds, seconds, looks, found):
    """Writes the figures of a run as a page of the documentation."""
    (_, right, lost), (_, others_right, others_lost) = found.values()
    yield "# Killed and back"
    yield ""
    yield f"`make rounds` writes this page. Two callers call two owners, from {len(right)} threads each. In each round,"
    yield "one owner is killed, and another process comes back under its name, often before the hub has noticed. Both"
    yield "serve an encoder under one name, so that calls can go to both as [replicas](groups.md#replicas). A row that"
    yield "says native is there if the [native part](native.md) is built."
    yield ""
    yield (
        f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores: {rounds} rounds in {seconds:.0f} s. All "
        "calls came back, all values were right, and no idempotent call had an error."
    )
    yield ""
    yield "| calls | right | lost |"
    yield "|---|---|---|"
    for kind in sorted(right):
        yield f"| {kind} | {right[kind] + others_right[kind]} | {lost[kind] + others_lost[kind]} |"
    yield ""
    yield "What the two callers use, in MiB, threads and open files:"
    yield ""
    yield "| round | one caller | the other |"
    yield "|---|---|---|"
    for number, *of in looks:
        shown = (f"{mib} MiB, {threads} threads, {files} files" for mib, threads, files in of)
        yield f"| {number} | {' | '.join(shown)} |"
    yield ""
    yield "Memory grows nearly as much in a group in which nobody calls anything but functions of torch: torch's agent"
    yield "keeps a few KiB of every worker that it was ever connected to. Through shared memory, which these"
    yield "workers do not use, it keeps 18 files and some 6 MiB of each."


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.groups.rounds", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of when who is killed")
    parser.add_argument("--page", type=pathlib.Path, help="a file for the figures, if there were no faults")
    options = parser.parse_args()
    faulthandler.enable()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        nursery = Nursery(folder)
        tr.join("main", shared_memory=False, rpc_timeout=20)
        began, faults, looks = time.monotonic(), 0, []
        found = run(nursery, options.rounds, options.seed, looks)
        seconds = time.monotonic() - began
    for who, (wrong, right, lost) in found.items():
        for kind in sorted(right):
            print(f"{who}: {kind}: {right[kind]} right, {lost[kind]} lost")
        faults += len(wrong)
        print(*wrong[:20], sep="\n")
    print(f"{options.rounds} rounds in {seconds:.0f} s, {faults} faults", flush=True)
    if options.page is not None and not faults:
        options.page.write_text("\n".join(page(options.rounds, seconds, looks, found)) + "\n")
    tr.leave()
    os._exit(1 if faults else 0)


if __name__ == "__main__":
    main()
