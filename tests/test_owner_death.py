"""What a caller sees of an owner that dies: in processes of their own, since the group does not survive it."""

import os
import signal
import subprocess
import sys

import torch
import torch.distributed.rpc as rpc

import torchremote as tr
from torchremote.errors import WireError

from . import zoo


def test_a_dead_owner_is_noticed_and_named(tmp_path):
    store = f"file://{tmp_path}/store"
    caller = subprocess.run(
        [sys.executable, "-m", "tests.test_owner_death", store], capture_output=True, text=True, timeout=90
    )
    assert "WireError Encoder.forward on owner: " in caller.stdout, caller.stderr
    assert "async WireError" in caller.stdout


def act(store):
    owner = subprocess.Popen([sys.executable, "-m", "tests.owner", store])
    options = rpc.TensorPipeRpcBackendOptions(init_method=store, rpc_timeout=30)
    rpc.init_rpc("caller", rank=0, world_size=2, rpc_backend_options=options)
    stub = tr.create("owner", zoo.Encoder, zoo.LinearEncoder)
    x = torch.ones(1, 8)
    stub(x)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    for prefix, call in (("", stub), ("async ", lambda x: stub.forward_async(x).wait())):
        try:
            call(x)
        except WireError as error:
            print(f"{prefix}WireError {str(error).splitlines()[0]}", flush=True)
    os._exit(0)  # an orderly shutdown would wait for the dead


if __name__ == "__main__":
    act(sys.argv[1])
