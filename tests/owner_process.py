"""The second worker of the `owner` fixture: serves until the first one shuts down. Also what tests ask it to do."""

import ctypes
import gc
import linecache
import os
import sys
import threading
import typing

import torch
import torch.distributed.rpc as rpc

import torchremote
from torchremote.jit import compile_contract, compile_interface
from torchremote.jit.lower import SourceNames
from torchremote.jit.read.parse import parse_interface
from torchremote.owner import modules, scripting
from torchremote.owner.running.hosting import Ways

from . import zoo
from .group import end_with_the_parent


def hosted_here():
    gc.collect()
    return {module.number for module in torchremote.stats().modules}


def resident():
    """Returns this process's memory, in bytes."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serve_encoder(name, seed):
    torchremote.serve(zoo.LinearEncoder(seed=seed), zoo.Encoder, name)


def replace_encoder(name, seeds, rounds):
    for n in range(rounds):
        torchremote.serve(zoo.LinearEncoder(seed=seeds[n % 2]), zoo.Encoder, name, replace=True)


def hold_the_gil(seconds, sign):
    """Sleeps in C without giving the GIL up, as a long C extension call does. From then on, there is a file `sign`."""
    usleep = ctypes.PyDLL(None).usleep
    os.close(os.open(sign, os.O_CREAT))
    usleep(int(seconds * 1e6))  # before another thread may ask for the GIL: that has to wait for 5 ms


def is_compiled(name, text):
    from torchremote import jit

    return (name, text) in jit._contracts._values


def churn(rounds):
    """Hosts and withdraws modules of one interface, as fast as it can."""
    contract = compile_interface(zoo.Encoder).contract
    linears = [scripting.scripted_module(zoo.LinearEncoder(seed=n), contract.interface) for n in range(8)]
    for n in range(rounds):
        modules.remove(modules.add(contract, linears[n % 8], torch.device("cpu")))


def host_many(count):
    """Hosts one module `count` times. Returns the handles."""
    contract = compile_interface(zoo.Sleeper).contract
    module = scripting.scripted_module(zoo.SlowLoop(), contract.interface)
    return [modules.add(contract, module, torch.device("cpu")) for _ in range(count)]


def release_all(handles):
    for handle in handles:
        modules.remove(handle)


def host_source(name, text, source, moves):
    """Hosts a module with the methods that `source` defines, for an interface's canonical text. Returns the handle.

    `moves`: whether tensors move to it, as if it were on an accelerator.
    """
    contract = compile_contract(parse_interface(name, text))
    module = scripting.scripted_module(module_of(contract, source), contract.interface)
    return modules.add(contract, module, torch.device("cpu"), Ways(moves=moves))


def module_of(contract, source):
    """Makes a module with the methods that `source` defines, which may name the classes of the interface's types."""
    title = f"<module of {contract.interface.name}#{contract.interface.digest}>"
    linecache.cache[title] = (len(source), None, source.splitlines(keepends=True), title)
    source_names = SourceNames(contract.interface)
    classes = {source_names.classes[named]: cls for named, cls in contract.classes.items()}
    namespace = {**vars(typing), "Tensor": torch.Tensor, "torch": torch, **classes, "__name__": "fuzzed"}
    exec(compile(source, title, "exec"), namespace)
    methods = {method.name: namespace[f"method_{n}"] for n, method in enumerate(contract.interface.methods)}
    # torch keeps one type for a class of one name in one module.
    module = type(f"Module_{contract.interface.digest}", (torch.nn.Module,), {**methods, "__module__": "fuzzed"})
    return module()


_gate = threading.Event()
_done = 0


def open_gate():
    _gate.set()


def close_gate():
    _gate.clear()


def count_done():
    return _done


def linear_behind_a_gate(seconds):
    """A factory that is slow for as long as the test wants."""
    global _done
    _gate.wait(timeout=seconds)
    _done += 1
    return zoo.LinearEncoder()


def main(store, transports=None):
    from . import accelerator as accelerator

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)  # so that it can run calls in turn, whatever test comes first
    gc.freeze()  # see tests/conftest.py
    options = rpc.TensorPipeRpcBackendOptions(init_method=store, rpc_timeout=30, _transports=transports)
    rpc.init_rpc("owner", rank=1, world_size=2, rpc_backend_options=options)
    rpc.shutdown()


if __name__ == "__main__":
    end_with_the_parent()
    main(*sys.argv[1:])
