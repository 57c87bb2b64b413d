"""Callbacks that make calls and wait for them: see caller/messages/waiting.py, Note [Callbacks that wait]."""

import queue

import pytest
import torch

import torchremote as tr
from torchremote.errors import CallTimeoutError

from .test_interrupts import Napping, Naps

SECONDS = 0.2
"""Of a nap: all threads of RPC are in callbacks meanwhile."""


@pytest.mark.parametrize("way", ["blocking", "async", "creation"])
def test_callbacks_that_wait_leave_a_thread_for_the_answers(owner, way):
    stub, found = tr.create(owner, Naps, Napping), queue.SimpleQueue()
    waits = {
        "blocking": lambda: stub.nap(SECONDS),
        "async": lambda: stub.nap_async(SECONDS).wait(),
        "creation": lambda: tr.create(owner, Naps, Napping, args=(SECONDS,)).nap(0.0),
    }

    def wait(_):
        try:
            found.put(waits[way]())
        except CallTimeoutError as error:
            found.put(error)

    first = [stub.nap_async(0.0) for _ in range(40)]
    for future in first:
        future.add_done_callback(wait)
    assert torch.futures.wait_all(first) == [1] * 40
    came = [found.get(timeout=60) for _ in first]
    errors = [error for error in came if isinstance(error, CallTimeoutError)]
    assert 1 in came
    assert all("all 16 threads on which RPC runs callbacks wait" in str(error) for error in errors)
    assert stub.nap(0.0) == 1
