"""A language model split between two owners, which keep their caches. A scripted loop on the caller generates text.

    python examples/language_model/run.py [--steps 300]

TorchScript refuses both halves, so each owner exports its half with torch.export. It then runs without Python.
"""

import argparse
import codecs
import contextlib
import io
import multiprocessing
import tempfile

import torch
import torch.distributed.rpc as rpc
from parts import Back, Front, Half, Shape
from torch import Tensor, nn

import torchremote as tr

WORKERS = ("caller", "front", "back")


class Generator(nn.Module):
    """Writes the most probable text after a beginning. Scripted, it runs without Python here, too."""

    front: Half
    back: Half

    def __init__(self, front: Half, back: Half) -> None:
        super().__init__()
        self.front, self.back = front, back

    def forward(self, text: Tensor, count: int) -> Tensor:
        new, start = text, 0
        for _ in range(count):
            logits = self.back.forward(self.front.forward(new, start), start)
            start += new.size(1)
            new = logits[:, -1:].argmax(2)
            text = torch.cat([text, new], 1)
        return text


def training_text() -> str:
    """The Zen of Python, which every Python has."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    return codecs.decode(this.s, "rot13")


def train(front: nn.Module, back: nn.Module, text: Tensor, steps: int) -> None:
    """Trains the two halves here, in Python."""
    optimizer = torch.optim.AdamW([*front.parameters(), *back.parameters()], lr=0.003)
    for step in range(steps):
        begin = torch.randint(len(text) - 129, (8,))
        batch = torch.stack([text[first : first + 129] for first in begin.tolist()])
        logits = back(front(batch[:, :-1]))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}")


def generate(steps: int) -> None:
    torch.manual_seed(0)
    written = training_text()
    letters = sorted(set(written))
    text = torch.tensor([letters.index(letter) for letter in written])
    shape = Shape(len(letters))
    halves = {"front": Front(shape), "back": Back(shape)}
    train(halves["front"], halves["back"], text, steps)

    inputs = {"front": torch.zeros(1, 5, dtype=torch.int64), "back": torch.zeros(1, 5, shape.width)}
    stubs = {}
    for (name, half), cls in zip(halves.items(), (Front, Back), strict=True):
        examples = {"forward": (inputs[name], 7)}  # 5 more characters after 7; calls have as many as they like
        stubs[name] = tr.create(name, Half, cls, (shape,), examples=examples, in_turn=True)  # for the cache's sake
        tr.at_owner(stubs[name]).load_state_dict(half.state_dict())

    beginning = "Beautiful is"
    begin = torch.tensor([[letters.index(letter) for letter in beginning]])
    generator = torch.jit.script(Generator(**stubs))
    with torch.no_grad():
        found = generator(begin, 40)
        wanted = begin
        for _ in range(40):  # the same here, without caches
            wanted = torch.cat([wanted, halves["back"](halves["front"](wanted))[:, -1:].argmax(2)], 1)
    print("".join(letters[n] for n in found[0].tolist()))
    print("the same as here:", torch.equal(found, wanted))


def work(name: str, rendezvous: str, steps: int) -> None:
    torch.set_num_threads(1)
    options = tr.rpc_options(init_method=rendezvous)
    rpc.init_rpc(name, rank=WORKERS.index(name), world_size=len(WORKERS), rpc_backend_options=options)
    if name == "caller":
        generate(steps)
    rpc.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"file://{folder}/rendezvous", options.steps)
        processes = [context.Process(target=work, args=(name, *arguments), daemon=True) for name in WORKERS]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=300)
            if process.exitcode != 0:
                raise SystemExit(f"a worker failed: {process.exitcode}")


if __name__ == "__main__":
    main()
