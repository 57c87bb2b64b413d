"""A transformer block on an owner: in Python behind torch's RemoteModule, scripted, and exported; idle and busy."""

from __future__ import annotations

import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote

from .busy_owner import start_being_busy, stop_being_busy
from .findings import Findings, Target
from .timing import Rounds, interleave, timed
from .work import TORCH_PYTHON, Layer, torch_python

EXPORTED = "torchremote, exported"
SCRIPTED = "torchremote, scripted"
BUSY = "owner busy"
LOCAL_EXPORTED = "exported, here"
LOCAL_SCRIPTED = "scripted, here"
TARGETS = (
    Target(EXPORTED, SCRIPTED, 1.05),
    Target(EXPORTED, TORCH_PYTHON, 0.5),
    Target(f"{EXPORTED}, {BUSY}", f"{TORCH_PYTHON}, {BUSY}", 0.02),
    Target(LOCAL_EXPORTED, LOCAL_SCRIPTED, 1.05),  # what the comparison of the arguments costs
)


class Block(nn.Module):
    """[n, length, 64] float32 -> the same. TorchScript takes it, so that all three can be compared."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.between = nn.LayerNorm(64), nn.LayerNorm(64)
        self.attend, self.joined = nn.Linear(64, 192), nn.Linear(64, 64)
        self.wide, self.narrow = nn.Linear(64, 256), nn.Linear(256, 64)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.size(0), x.size(1), x.size(2)
        parts = self.attend(self.before(x)).view(size, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.joined(attended.transpose(1, 2).reshape(size, length, width))
        return x + self.narrow(nn.functional.gelu(self.wide(self.between(x))))


def measure(quick: bool) -> Findings:
    x = torch.randn(2, 16, 64)
    examples = {"forward": (x,)}
    exported = torchremote.create("owner", Layer, Block, examples=examples)
    scripted = torchremote.create("owner", Layer, Block)
    python = torch_python("owner", Block)
    here, compiled = torchremote.exported(Block(), Layer, examples), torch.jit.script(Block())
    contenders = {
        EXPORTED: timed(lambda: exported(x)),
        SCRIPTED: timed(lambda: scripted(x)),
        TORCH_PYTHON: timed(lambda: python.forward(x)),
    }
    local = {LOCAL_EXPORTED: timed(lambda: here(x)), LOCAL_SCRIPTED: timed(lambda: compiled(x))}
    found: Rounds = {}
    with torch.no_grad():
        for _ in range(7 if quick else 20):
            rounds = interleave(contenders, rounds=1, calls=50, warm_up=50)
            rounds |= interleave(local, rounds=1, calls=50, warm_up=50)
            rpc.rpc_sync("owner", start_being_busy)
            fast = {name: contenders[name] for name in (EXPORTED, SCRIPTED)}
            # A machine with few cores takes some tenths of a second to spread what has begun to run.
            busy = interleave(fast, rounds=1, calls=50, warm_up=200)
            busy |= interleave({TORCH_PYTHON: contenders[TORCH_PYTHON]}, rounds=1, calls=5, warm_up=1)
            rpc.rpc_sync("owner", stop_being_busy)
            rounds |= {f"{name}, {BUSY}": values for name, values in busy.items()}
            for name, values in rounds.items():
                found.setdefault(name, []).extend(values)
    return Findings("A transformer block, [2, 16, 64] float32", "us", 1e6, found, TARGETS)
