"""A process of a round: joins the group, makes random operations, rests, and leaves."""

import ctypes
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings

import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import chores
from torchremote.link import grace
from torchremote.owner.lives import holders, leases

from ..group import close_the_port
from ..owner_process import resident
from . import board as boards
from . import chances, housekeeping, lives, sending
from .caller import Caller, run_thread
from .report import Report
from .watch import Watch

THREADS = {"caller0": 3, "caller1": 3, "third": 2}
PATIENCE = 40.0
"""Seconds within which owners have let go of everything, when all stubs were dropped."""

_PR_SET_PDEATHSIG = 1


def main(worker, settings):
    """Plays `worker` in a round. A Fork of the round runs this."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # ends it also while it is stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends all
    faulthandler.enable()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    # What takes long happens often in a short round.
    chores.INTERVAL, grace.GRACE, leases.ON_THE_WAY = 0.5, 2.0, 8.0
    holders.ROUNDS_BETWEEN_SIGNS, holders.SILENT_ROUNDS = 2, 40  # the longest stop takes 16 rounds

    board, report = boards.Board(settings.board), Report(settings.folder, worker)
    watch = Watch(board, worker, report)
    report.keep_writing()
    if worker in boards.OWNERS and worker != "third":
        housekeeping.serve_all(board, worker)
    options = tr.rpc_options(
        init_method=f"file://{settings.folder}/rpc",
        rpc_timeout=settings.rpc_timeout,
        shared_memory=settings.shared_memory,
        large_tensors=settings.large_tensors,
        in_turn=worker == "third",  # it calls from TorchScript, which may be before it hosts what runs in turn
    )
    if worker == "third":
        housekeeping.serve_all(board, worker)
    rank = boards.WORKERS.index(worker)
    rpc.init_rpc(worker, rank=rank, world_size=len(boards.WORKERS), rpc_backend_options=options)
    shared = {}
    threads = [
        Caller(random.Random(f"{settings.seed} {worker} {n}"), worker, settings, board, report, watch, shared=shared)
        for n in range(1 + THREADS.get(worker, 0))
    ]
    pause = threading.Barrier(len(threads) + 1)
    if worker == settings.deaf:
        close_the_port()
    board.reach(worker, boards.READY)
    _until(board, boards.WORKING)
    step = housekeeping.keep_house if worker in boards.OWNERS else _do_nothing
    run_thread(threads[0], pause, housekeeping.nothing, step, housekeeping.nothing)
    for caller in threads[1:]:
        run_thread(caller, pause, chances.connect_to_served, chances.step, lives.withdraw)
    for part in range(settings.parts):
        letting_go = boards.LETTING_GO + boards.PART * part
        pause.wait()  # no thread works
        sending.let_keep(False)
        board.reach(worker, letting_go - 1)
        _until(board, letting_go)
        sending.empty_boxes()
        _let_go(board, report)
        report.memory.append(_memory())
        report.write()
        board.reach(worker, letting_go)
        _until(board, letting_go + 1)
        sending.let_keep(True)
        pause.wait()
    if settings.kills:
        os._exit(0)  # an orderly shutdown would wait for the dead
    late = threading.Timer(3, _tell_of_shutdown)
    late.daemon = True
    late.start()
    with watch.within(settings.rpc_timeout, "rpc.shutdown"):
        rpc.shutdown()
    late.cancel()
    board.reach(worker, boards.LEFT)
    sys.stdout.flush()


def _do_nothing(caller):
    time.sleep(0.1)


def _until(board, phase):
    """Waits for a phase, and collects garbage: what comes late may leave some, with stubs in it."""
    while board.phase < phase:
        time.sleep(0.05)
        gc.collect(1)


def _tell_of_shutdown():
    """Prints for what torch waits. It is shown if the round fails."""
    references, agent = rpc._rref_context_get_debug_info(), rpc.api._get_current_rpc_agent().get_debug_info()
    print(f"rpc.shutdown takes long: {references} {agent}", flush=True)
    faulthandler.dump_traceback(sys.stdout, all_threads=True)


def _let_go(board, report):
    """Waits until this process hosts nothing but what it serves."""
    end = time.monotonic() + PATIENCE
    while left := [module for module in tr.stats().modules if not _may_stay(board, module)]:
        gc.collect()
        if time.monotonic() > end:
            held = [(held.holders, held.on_the_way) for held in leases._leased.values()]
            references = {holder: _references_of(holder) for one in held for holder in one[0].values()}
            report.fault("leftover", f"{left}; holders and stubs on the way: {held}; their RRefs: {references}")
            return
        time.sleep(0.1)


def _references_of(worker):
    try:
        return rpc.rpc_sync(worker, rpc._rref_context_get_debug_info, timeout=5)
    except RuntimeError as error:
        return str(error)


def _may_stay(board, module):
    if module.name is None:
        return False
    creator = module.name.removeprefix("named by ").partition(" ")[0]
    return module.name in housekeeping.SERVED or (creator in boards.WORKERS and board.is_killed(creator))


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def _memory():
    """Returns this process's memory, in bytes: what is allocated, and what is resident.

    Allocated is what malloc gave out and did not get back. Resident is also what malloc keeps for later.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    libc.mallinfo2.restype = _MallInfo
    info = libc.mallinfo2()
    return {"allocated": info.uordblks + info.hblkhd, "resident": resident()}
