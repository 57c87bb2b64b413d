"""Operations that send, fetch, copy and save stubs."""

import copy
import gc
import io
import re

import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote import errors
from torchremote.errors import NotSavableError, RemoteError, StaleStubError, TorchRemoteError
from torchremote.link.lost import is_lost

from . import modules
from .books import Weights, Wrong
from .caller import Subject, TorchLost
from .calls import OF_ARITHMETIC

X = torch.ones(2, modules.WIDTH)

_kept = []
_boxes = []  # results that RRefs of other workers refer to: torch keeps them for a worker that was killed
_keeping = _boxing = True


def call_here(stub, x, factor):
    return stub(x, factor)


def keep_here(stub):
    if _keeping:
        _kept.append(stub)
        del _kept[:-5]


def let_keep(keeping):
    """Drops what was kept. `keeping`: whether this process keeps what comes from now on, or late."""
    global _keeping, _boxing
    _keeping = keeping
    _boxing |= keeping
    _kept.clear()
    gc.collect()


def make_here(owner, weight):
    return tr.create(owner, modules.Arithmetic, modules.Scaling, (weight,))


def make_in_box_here(owner, weight):
    box = [make_here(owner, weight)]
    if _boxing:
        _boxes.append(box)
    else:
        box.clear()  # who asked was killed
    return box


def empty_boxes():
    """Empties what RRefs refer to, until `let_keep(True)`: every worker that lives has what it asked for."""
    global _boxing
    _boxing = False
    for box in _boxes:
        box.clear()
    _boxes.clear()


def call_reference_here(reference, x, factor, seconds):
    (stub,) = reference.to_here(timeout=seconds)  # in a list, for torch sends no value that is a ScriptModule
    return stub(x, factor)


def remotely(caller, worker, function, args):
    """Runs a function on another worker. Torch's own reports of lost workers and timeouts become TorchLost."""
    return _of_torch(caller, lambda: rpc.rpc_sync(worker, function, args), function.__name__)


def _of_torch(caller, function, what):
    with caller.watch.within(2 * caller.settings.rpc_timeout, what):
        try:
            return function()
        except RuntimeError as error:
            if isinstance(error, TorchRemoteError):
                raise
            text = str(error)
            raised = re.match(r"(\w+): On WorkerInfo", text)
            if raised and hasattr(errors, raised[1]):
                raise getattr(errors, raised[1])(text) from None  # what the function raised there
            if raised:
                text = text.partition("\n")[2]  # what torch raised there
            if is_lost(text) or re.search("RPC ran for more than set timeout|timed out", text):
                raise TorchLost(text) from None
            raise


def send(caller, subject):
    """Sends a stub to another worker, which calls it or keeps it for a while."""
    worker = caller.another_worker()
    may_raise = (*subject.may_raise, StaleStubError, RemoteError) if caller.unquiet else subject.may_raise
    way = caller.random.choice(["call", "keep", "reference"])
    caller.report.count(f"send to {way}")
    before = subject.book.before()
    try:
        if way == "keep":
            remotely(caller, worker, keep_here, (subject.stub,))
        elif way == "call":
            subject.book.check(before, X, 3.0, remotely(caller, worker, call_here, (subject.stub, X, 3.0)))
        else:
            box = [subject.stub]
            try:
                args = (rpc.RRef(box), X, 3.0, caller.settings.rpc_timeout)
                subject.book.check(before, X, 3.0, remotely(caller, worker, call_reference_here, args))
            finally:
                box.clear()  # torch keeps the value for a worker that was killed
    except TorchRemoteError as error:
        caller.judge(error, may_raise, f"send to {way}")


def fetch(caller):
    """Has another worker create a module, and gets its stub: as a result, or through an RRef."""
    worker, owner, weight = caller.another_worker(), caller.owner(), caller.random.randint(1, 99)
    seconds = caller.settings.rpc_timeout
    way = caller.random.choice(["result", "reference"])
    caller.report.count(f"fetch by {way}")
    if way == "result":
        stub = remotely(caller, worker, make_here, (owner, weight))
    else:
        reference = _of_torch(
            caller, lambda: rpc.remote(worker, make_in_box_here, (owner, weight), timeout=0), "rpc.remote"
        )
        (stub,) = _of_torch(caller, lambda: reference.to_here(timeout=seconds), "to_here")
    may_raise = (StaleStubError,) if caller.unquiet else ()
    caller.subjects.append(Subject(stub, owner, Weights(weight), seconds, OF_ARITHMETIC, may_raise))


def save(caller, subject):
    """Saves a stub of a module without a name: refused."""
    caller.report.count("save what has no name")
    try:
        torch.jit.save(subject.stub, io.BytesIO())
    except NotSavableError as error:
        caller.report.error(error)
        return
    raise Wrong("a stub of a module without a name was saved")


def copy_stub(caller, subject):
    caller.report.count("copy")
    caller.kept.append(copy.deepcopy(subject.stub))
