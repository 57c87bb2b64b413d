"""Serves the trained model again, in processes that know nothing of its training.

python serve.py front 0 RENDEZVOUS    has the archive, and neither an interface nor a module's code
python serve.py left 1 RENDEZVOUS     has its part's code and state
python serve.py right 2 RENDEZVOUS    the same
"""

import sys

import torch
import torch.distributed.rpc as rpc

import torchremote as tr


def offer(name: str) -> None:
    from parts import Half, HalfEncoder

    part = HalfEncoder()
    part.load_state_dict(torch.load(f"{name}.pt", weights_only=True))
    tr.serve(part.eval(), Half, name)


def answer() -> None:
    from data import accuracy, load

    model = tr.load("model.pt")  # torch.jit.load, and its two stubs find their parts by worker and name
    _, images, _, labels = load()
    print(f"served: accuracy {accuracy(model, images, labels):.4f}")
    print("parts.py imported here:", "parts" in sys.modules)


if __name__ == "__main__":
    name, rank, rendezvous = sys.argv[1:]
    torch.set_num_threads(1)
    if name != "front":
        offer(name)  # before anybody can ask for it
    options = tr.rpc_options(init_method=rendezvous)
    rpc.init_rpc(name, rank=int(rank), world_size=3, rpc_backend_options=options)
    if name == "front":
        answer()
    rpc.shutdown()
