"""A gRPC server in Python that holds the module; tensors cross as their bytes, without a schema of their own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import grpc
import numpy
import torch
from driver import drive
from torch import Tensor, nn


def to_bytes(x: Tensor) -> bytes:
    return x.numpy().tobytes()


def from_bytes(data: bytes) -> Tensor:
    return torch.from_numpy(numpy.frombuffer(data, numpy.float32).reshape(-1, 8).copy())


def serve(port: Connection) -> None:
    torch.set_num_threads(1)
    linear = nn.Linear(8, 8)

    @torch.no_grad()
    def forward(x: Tensor, context: grpc.ServicerContext) -> Tensor:
        return linear(x)

    handler = grpc.unary_unary_rpc_method_handler(forward, from_bytes, to_bytes)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Layer", {"forward": handler}),))
    port.send(server.add_insecure_port("localhost:0"))
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    torch.set_num_threads(1)
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    with grpc.insecure_channel(f"localhost:{here.recv()}") as channel:
        forward = channel.unary_unary("/Layer/forward", to_bytes, from_bytes)
        x = torch.ones(4, 8)
        drive(lambda: forward(x))
    server.terminate()
