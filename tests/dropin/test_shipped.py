"""The tests that torch ships for its RemoteModule, against ours. They bring their own processes."""

import pytest
import torch
from torch.testing._internal.distributed.rpc.tensorpipe_rpc_agent_test_fixture import TensorPipeRpcAgentTestFixture
from torch.testing._internal.distributed.rpc_utils import generate_tests

from ..forks import FORKS, start_server
from .shipped import suites

# What cannot pass, because it asserts a limitation that is not here: at most two.
LIFTED = {
    "test_send_remote_module_over_the_wire_script_not_supported": "a scripted remote module can be sent over RPC",
}


def fork_processes(test):
    """Where it spawns them: what each imports takes longer than what it does."""
    start_server()
    test._start_processes(FORKS.Process)


@pytest.fixture(autouse=True)
def only_its_own(request, monkeypatch):
    """A test that fails ends all processes that multiprocessing knows of, and the owner is one."""
    monkeypatch.setattr(torch.multiprocessing, "active_children", lambda: request.instance.processes)


def generated():
    wanted = [suites.RemoteModuleTest, suites.ThreeWorkersRemoteModuleTest]
    if torch.cuda.is_available():
        wanted.append(suites.CudaRemoteModuleTest)
    found = generate_tests("Shipped", TensorPipeRpcAgentTestFixture, wanted, __name__)
    for suite in found.values():
        suite._spawn_processes = fork_processes
        for name in LIFTED.keys() & set(dir(suite)):
            setattr(suite, name, pytest.mark.xfail(reason=LIFTED[name])(getattr(suite, name)))
    return found


globals().update(generated())
