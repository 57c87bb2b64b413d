"""A call that ran, and whose module called another that is gone, is not taken for one that was refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import native
from torchremote.errors import RemoteError

from .. import zoo
from ..waiting import until
from . import roles
from .test_follow import X, is_from


@tr.remote_scriptable
class Stepping:
    def step(self, x: Tensor) -> Tensor: ...
    def twice(self, x: Tensor) -> Tensor: ...


class Calling(nn.Module):
    """Counts its steps, and calls another module in each."""

    encoder: zoo.Encoder

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.steps = torch.zeros(1)

    def step(self, x: Tensor) -> Tensor:
        self.steps.add_(1)
        return self.encoder(x)

    def twice(self, x: Tensor) -> Tensor:
        return x * 2


class Itself(nn.Module):
    """Counts its steps, waits in each until it may go on, and calls what has its own name."""

    stepping: Stepping

    def __init__(self, stepping):
        super().__init__()
        self.stepping = stepping
        self.steps, self.may_go = torch.zeros(1), torch.zeros(1)

    def step(self, x: Tensor) -> Tensor:
        self.steps.add_(1)
        while not bool(self.may_go):
            pass
        return self.stepping.twice(x)

    def twice(self, x: Tensor) -> Tensor:
        return x * 2


class Doubling(nn.Module):
    def step(self, x: Tensor) -> Tensor:
        return x * 2

    def twice(self, x: Tensor) -> Tensor:
        return x * 2


_served = []  # on the owner


def serve_calling(where):
    roles.serve_encoder(1, "inner")
    _served.append(Calling(tr.connect(where, zoo.Encoder, "inner")))
    tr.serve(_served[-1], Stepping, "stepping", in_turn=False, replace=True)


def serve_itself(where):
    tr.serve(Doubling(), Stepping, "stepping", in_turn=False, replace=True)
    _served.append(Itself(tr.connect(where, Stepping, "stepping")))
    tr.serve(_served[-1], Stepping, "stepping", in_turn=False, replace=True)


def steps():
    return int(_served[-1].steps)


def withdraw_and_let_go():
    tr.withdraw("stepping")
    _served[-1].may_go.fill_(1)


WAYS = {
    "now": lambda stub: stub.step(X),
    "async": lambda stub: stub.step_async(X).wait(),
    "many": lambda stub: stub.step_many([(X,)])[0],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_call_whose_module_calls_one_that_moved_runs_once(owner, way):
    rpc.rpc_sync(owner, serve_calling, (owner,))
    stub = tr.connect(owner, Stepping, "stepping")
    rpc.rpc_sync(owner, tr.withdraw, ("inner",))
    rpc.rpc_sync(owner, roles.serve_encoder, (2, "inner"))
    if native.available():
        assert is_from(2, WAYS[way](stub))
    else:
        with pytest.raises(RemoteError, match="it led to a call of Encoder.forward, whose module is gone") as raised:
            WAYS[way](stub)
        assert type(raised.value) is RemoteError
    assert rpc.rpc_sync(owner, steps) == 1
    for name in ("inner", "stepping"):
        rpc.rpc_sync(owner, tr.withdraw, (name,))


def withdrawn_in_a_step(owner, call):
    """Makes a call of `step`, whose module is withdrawn while it runs. Returns its error."""
    rpc.rpc_sync(owner, serve_itself, (owner,))
    stub = tr.connect(owner, Stepping, "stepping", timeout=60)
    with ThreadPoolExecutor() as threads:
        result = threads.submit(call, stub)
        until(lambda: result.done() or rpc.rpc_sync(owner, steps) == 1)
        rpc.rpc_sync(owner, withdraw_and_let_go)
    assert rpc.rpc_sync(owner, steps) == 1
    return result.exception()


@pytest.mark.parametrize("way", WAYS)
def test_a_call_whose_module_calls_itself_and_is_withdrawn_has_run(owner, way):
    error = withdrawn_in_a_step(owner, WAYS[way])
    assert type(error) is RemoteError
    assert "it led to a call of Stepping.twice, whose module is gone" in str(error).partition("\n")[0]
