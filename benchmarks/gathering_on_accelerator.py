"""What does gathering give on an accelerator, in batches of up to 256, with a device map and without one?"""

from __future__ import annotations

import torch

import torchremote

from .findings import Findings, Target
from .gathering import GATHERED, PLAIN, WIDTH, Network, Rows, Window, rate
from .movement import MAPPED, STAGED
from .timing import Block, interleave

DEPTHS = (1, 4, 16, 64, 256)

GROUP = {"others": ("staged", "mapped"), "mapped": ("mapped",)}


def measure(quick: bool) -> Findings:
    device = torch.device(f"{torch.accelerator.current_accelerator()}:0")
    x = torch.randn(1, WIDTH)
    blocks: dict[str, Block] = {}
    for worker, way, row in (("staged", STAGED, x), ("mapped", MAPPED, x.to(device))):
        for name, gather in ((PLAIN, None), (GATHERED, max(DEPTHS))):
            window = torch.jit.script(Window(torchremote.create(f"{worker}/{device}", Rows, Network, gather=gather)))
            for depth in DEPTHS:

                def calls(
                    number: int, window: torch.nn.Module = window, row: torch.Tensor = row, depth: int = depth
                ) -> None:
                    window(row, number, depth)
                    torch.accelerator.synchronize()

                blocks[f"{name}, {way}: {depth} in flight"] = rate(calls, 1 if depth == 1 else 10)
    with torch.no_grad():
        rounds = interleave(blocks, 9 if quick else 15, calls=20, warm_up=10)
    targets = [
        Target(f"{GATHERED}, {way}: {depth} in flight", f"{PLAIN}, {way}: {depth} in flight", bound, at_least=True)
        for way in (STAGED, MAPPED)
        for depth, bound in ((1, 0.85), (64, 2))
    ]
    notes = (f"A network of {WIDTH}, {2 * WIDTH}, {WIDTH}, one row a call, {max(DEPTHS)} calls of a batch at most.",)
    return Findings("Gathered calls on an accelerator", "calls/s", 1, rounds, targets, notes=notes)
