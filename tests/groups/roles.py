"""What workers of groups are asked to do."""

import threading
import time

import torch
import torch.distributed.rpc as rpc

import torchremote
from torchremote import _torch
from torchremote.owner import create, served

from .. import zoo

_stubs = {}
_asked = []


def serve_encoder(seed=0, name="encoder", later=0.0):
    """Serves an encoder, now or in some seconds."""

    def serve():
        torchremote.serve(zoo.LinearEncoder(seed=seed), zoo.Encoder, name, replace=True)

    if later:
        threading.Timer(later, serve).start()
    else:
        serve()


def serve_other(name="encoder"):
    torchremote.serve(zoo.SlowLoop(), zoo.Sleeper, name)


def connect(worker, name="encoder"):
    _stubs[name] = torchremote.connect(worker, zoo.Encoder, name)


def call(x, name="encoder"):
    return _stubs[name](x)


def members():
    return sorted(worker.name for worker in _torch.worker_infos())


def watch_connects():
    """Counts from here on how often a module is asked for."""
    find = served.find_served

    def counted(contract, name):
        _asked.append(name)
        time.sleep(0.2)  # so that others come while it looks
        return find(contract, name)

    create.served.find_served = counted


def connects():
    return len(_asked)


def expected(x, seed=0):
    return zoo.LinearEncoder(seed=seed)(x, 1.0)


def add(to):
    return rpc.rpc_sync(to, torch.add, (torch.ones(1), 1)).item()


def training(name="encoder"):
    return served.served_module(name).training


def references():
    """Returns how many references torch counts to what this worker owns."""
    return int(rpc._get_debug_info()["num_forks"])


def hold_unnamed(worker):
    _stubs["unnamed"] = torchremote.create(worker, zoo.Encoder, zoo.LinearEncoder)
    _stubs["result"] = _stubs["unnamed"].forward_remote(torch.ones(2, 8))
