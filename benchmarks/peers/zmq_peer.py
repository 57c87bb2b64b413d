"""A pyzmq request and reply, with pickle, to a process that holds the module."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import torch
import zmq
from driver import drive
from torch import nn


def serve(port: Connection) -> None:
    torch.set_num_threads(1)
    linear = nn.Linear(8, 8)
    socket = zmq.Context().socket(zmq.REP)
    port.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    with torch.no_grad():
        while True:
            socket.send_pyobj(linear(socket.recv_pyobj()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    socket = zmq.Context().socket(zmq.REQ)
    socket.connect(f"tcp://127.0.0.1:{here.recv()}")
    x = torch.ones(4, 8)

    def call() -> object:
        socket.send_pyobj(x)
        return socket.recv_pyobj()

    drive(call)
    server.terminate()
