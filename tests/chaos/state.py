"""Operations on a module's state, where it is."""

import os
import uuid

import torch

import torchremote as tr
from torchremote.errors import CallTimeoutError, TorchRemoteError

from . import modules


def read_state(caller, subject):
    caller.report.count("state_dict")
    with caller.watch.within(2 * caller.settings.rpc_timeout, "state_dict"):
        state = tr.at_owner(subject.stub, timeout=caller.settings.rpc_timeout).state_dict()
    _check_state(subject, state)


def _check_state(subject, state):
    subject.book.check(None, torch.ones(modules.WIDTH), 1.0, state["weight"].detach())


def load_state(caller, subject):
    """Loads another state. If no answer comes, the module has the old or the new one, from then on."""
    caller.report.count("load_state_dict")
    weight = float(caller.random.randint(1, 99))
    timeout = caller.random.choice([caller.settings.rpc_timeout, caller.settings.rpc_timeout, 0.002])
    subject.book.loading(weight)
    try:
        with caller.watch.within(2 * timeout, "load_state_dict"):
            tr.at_owner(subject.stub, timeout=timeout).load_state_dict({"weight": torch.full([modules.WIDTH], weight)})
    except TorchRemoteError as error:
        subject.book.not_answered()
        caller.judge(error, (CallTimeoutError,) if timeout < 1 else (), "load_state_dict")
        return
    subject.book.loaded(weight)


def write_checkpoint(caller, subject):
    """Writes a checkpoint. A file that is there is whole, also if the owner was killed meanwhile."""
    caller.report.count("checkpoint")
    path = caller.settings.folder / f"{uuid.uuid4()}.pt"
    try:
        with caller.watch.within(caller.settings.rpc_timeout, "checkpoint"):
            tr.at_owner(subject.stub, timeout=caller.settings.rpc_timeout).checkpoint(path)
    finally:
        if path.exists():
            _check_state(subject, torch.load(path))
            os.remove(path)


def set_mode(caller, subject):
    caller.report.count("train, zero_grad")
    with caller.watch.within(2 * caller.settings.rpc_timeout, "train, zero_grad"):
        remote = tr.at_owner(subject.stub, timeout=caller.settings.rpc_timeout)
        remote.train(caller.random.random() < 0.5)
        remote.zero_grad()


OF_STATE = {read_state: 1, load_state: 2, write_checkpoint: 1, set_mode: 1}
