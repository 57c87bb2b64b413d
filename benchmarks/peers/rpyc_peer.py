"""An rpyc service that holds the module; tensors cross as pickles, which is how rpyc sends values of any class."""

from __future__ import annotations

import multiprocessing
import pickle
from multiprocessing.connection import Connection

import rpyc
import torch
from driver import drive
from rpyc.utils.server import ThreadedServer
from torch import nn


class LayerService(rpyc.Service):
    def __init__(self) -> None:
        self.linear = nn.Linear(8, 8)

    def exposed_forward(self, data: bytes) -> bytes:
        with torch.no_grad():
            return pickle.dumps(self.linear(pickle.loads(data)))


def serve(port: Connection) -> None:
    torch.set_num_threads(1)
    server = ThreadedServer(LayerService(), hostname="127.0.0.1", port=0)
    server.listener.listen()
    port.send(server.port)
    server.start()


if __name__ == "__main__":
    torch.set_num_threads(1)
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    connection = rpyc.connect("127.0.0.1", here.recv())
    x = torch.ones(4, 8)
    drive(lambda: pickle.loads(connection.root.forward(pickle.dumps(x))))
    connection.close()
    server.terminate()
