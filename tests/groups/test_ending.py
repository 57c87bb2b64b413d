"""Functions that a user gave to `atexit` before torchremote was imported: they run when its threads have ended."""

import subprocess
import sys
import time

import pytest

# The owner is killed, so the calls wait for it when Python ends. In the native part, those of before never end then.
PROGRAM = """
import atexit, os, signal

calls = []

def ask(call):
    try:
        print("returned", call())
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0], flush=True)

def hook():
    for call in calls:
        ask(call)
    print("ended", flush=True)

atexit.register(hook)
import torch
import torchremote as tr
from torchremote import native
from tests import zoo
from tests.groups.roles import members
from tests.waiting import until

@tr.remote_scriptable
class Patient:
    @tr.idempotent
    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor: ...

X = torch.ones(2, 8)
tr.join("main", shared_memory=False)
owner = tr.spawn("ps", shared_memory=False)
tr.create("ps", Patient, zoo.LinearEncoder, name="encoder")
stub = tr.connect("ps", Patient, "encoder", timeout=300)
replicas = tr.connect(["ps"], Patient, "encoder", timeout=300)
stub(X), replicas(X)
os.kill(owner.pid, signal.SIGSTOP)
futures = [] if native.available() else [stub.forward_async(X), replicas.forward_async(X)]
owner.kill()
owner.wait()
until(lambda: members() == ["main"])
futures += [stub.forward_async(X), replicas.forward_async(X)]
print(*[future.done() for future in futures], flush=True)
calls += [*[future.wait for future in futures], lambda: stub(X)]
calls += [lambda: stub.forward_async(X).wait(), lambda: replicas.forward_async(X).wait()]
"""


def ending(program, seconds):
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], timeout=100, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - started < seconds
    return ended.stdout.splitlines()


@pytest.mark.timeout(160)
def test_calls_that_wait_for_a_lost_owner_end_with_the_process():
    first, *raised, last = ending(PROGRAM, 90)
    assert (set(first.split()), last) == ({"False"}, "ended")
    assert len(raised) == len(first.split()) + 3
    # A pause may end when the group has ended RPC, and before the threads end.
    assert all("this process ends" in line or "RPC is not running" in line for line in raised), raised


INTERRUPTED = """
import atexit, signal

def raises(*_):
    raise InterruptedError

def hook():
    signal.signal(signal.SIGALRM, raises)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        Answer().wait()
    except InterruptedError:
        print("interrupted", flush=True)

atexit.register(hook)
import threading
import torchremote
from torchremote.caller.messages.answer import Answer

answer = Answer()
threading.Timer(0.3, answer.set_result, [1]).start()
answer.wait()
"""


def test_a_signal_ends_the_wait_of_such_a_function():
    assert ending(INTERRUPTED, 60) == ["interrupted"]
