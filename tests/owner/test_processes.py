"""What whole programs do: scripts that spawn themselves, and owners that end with much to let go."""

import subprocess
import sys
import textwrap

import pytest

SPAWNING = """
import enum, sys
from typing import NamedTuple
import torch, torch.distributed.rpc as rpc, torch.multiprocessing as mp
from torch import Tensor
import torchremote as tr

class Color(enum.Enum):
    RED = 1

class Pair(NamedTuple):
    x: Tensor
    color: Color

@tr.remote_scriptable
class Echo:
    def forward(self, pair: Pair) -> Pair: ...

class EchoModule(torch.nn.Module):
    def forward(self, pair: Pair) -> Pair:
        return pair

def run(rank, store):
    options = rpc.TensorPipeRpcBackendOptions(init_method=store)
    rpc.init_rpc(("caller", "owner")[rank], rank=rank, world_size=2, rpc_backend_options=options)
    if rank == 0:
        back = tr.create("owner", Echo, EchoModule)(Pair(torch.ones(1), Color.RED))
        assert type(back) is Pair and back.color is Color.RED
        print("came back")
    rpc.shutdown()

if __name__ == "__main__":
    mp.spawn(run, (sys.argv[1],), nprocs=2)
"""

MANY = """
import sys, torch, torch.distributed.rpc as rpc
import torchremote as tr
from torchremote.jit.read.parse import parse_interface
from tests import zoo

rank = int(sys.argv[2])
options = rpc.TensorPipeRpcBackendOptions(init_method=sys.argv[1])
rpc.init_rpc(("caller", "owner")[rank], rank=rank, world_size=2, rpc_backend_options=options)
if rank == 0:
    text = "forward(x: Tensor, rounds: int) -> Tensor"
    stubs = [tr.create("owner", parse_interface(f"__torch__.Many{n}", text), zoo.SlowLoop) for n in range(40)]
    assert all(stub(torch.ones(1), 1) == 2 for stub in stubs)
    del stubs
rpc.shutdown()
"""


@pytest.mark.timeout(200)
def test_a_script_that_spawns_itself_may_define_everything(tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(textwrap.dedent(SPAWNING))
    done = subprocess.run(
        [sys.executable, script, f"file://{tmp_path}/store"], capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    assert "came back" in done.stdout


def test_an_owner_ends_in_order_with_much_to_let_go(tmp_path):
    command = [sys.executable, "-c", MANY, f"file://{tmp_path}/store"]
    owner = subprocess.Popen([*command, "1"])
    try:
        subprocess.run([*command, "0"], check=True, timeout=100)
        assert owner.wait(timeout=60) == 0
    finally:
        owner.kill()
        owner.wait()
