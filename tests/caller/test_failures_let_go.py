"""What failed keeps nothing: when its stub and its error are dropped, the module goes."""

import gc
import weakref

import pytest
import torch

import torchremote as tr
from torchremote.caller.messages.failures_later import Failure
from torchremote.caller.messages.settling import later
from torchremote.errors import TorchRemoteError

from .. import zoo
from ..waiting import hosted, until

GOOD, MISFIT = torch.ones(2, 8), torch.ones(2, 5)


def wait(future):
    with pytest.raises(TorchRemoteError) as caught:
        future.wait()
    return caught.value


def asynchronous(stub):
    return wait(stub.forward_async(MISFIT))


def held(stub):
    future = stub.forward_async(MISFIT)
    return wait(future), wait(future)


def many(stub):
    future = stub.forward_many_async([(GOOD,), (MISFIT,)])
    return wait(future)


def each(stub):
    return stub.forward_many([(GOOD,), (MISFIT,)], return_exceptions=True)


def each_asynchronous(stub):
    future = stub.forward_many_async([(GOOD,), (MISFIT,)], return_exceptions=True)
    return future.wait()


def timed_out(stub):
    hasty = tr.with_timeout(stub, 0.001)
    futures = [hasty.forward_async(torch.ones(50_000, 8)) for _ in range(10)]
    return futures[-1], wait(futures[-1])


@pytest.mark.parametrize("fail", [asynchronous, held, many, each, each_asynchronous, timed_out])
def test_a_module_goes_although_a_call_failed(owner, fail):
    before = hosted(owner)
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    assert fail(stub)
    del stub
    until(lambda: hosted(owner) <= before)


class Held:
    pass


def fail_at_once(held):
    answer = torch.futures.Future()
    answer.set_exception(RuntimeError("failed"))
    future = later(None)(answer, lambda error: TorchRemoteError(str(error), id(held)), ())  # the callback runs here
    return future, wait(future)


def test_an_answer_that_is_there_already():
    held = Held()
    left = weakref.ref(held)
    assert fail_at_once(held)
    del held
    gc.collect()
    assert left() is None


def test_torch_finds_no_tensors_in_a_failure():
    """As it looks for them in the value of a Future of accelerators: it pickles what it does not know."""
    for failure in (Failure.of(TorchRemoteError("lost")), Failure(lambda: TorchRemoteError("lost"))):
        assert torch._jit_internal._extract_tensors([failure, GOOD]) == [GOOD]
