"""The commands `serve` and `withdraw`."""

from __future__ import annotations

import argparse
import os
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from .. import _torch
from ..caller.finding.connect import withdraw
from ..caller.messages.asking import ask
from ..errors import CreationError, GroupError, ServedNameError, TorchRemoteError
from ..group.ending import Ending
from ..group.hub import split_address, written_address
from ..group.join import group_address, join
from ..group.spawned import leave_in_time
from ..link.places import device_of
from ..owner.checks.remedies import REMEDY
from ..owner.served import serve, withdraw_here
from .built import build_target, find_examples
from .targets import split_name
from .visiting import (
    add_address,
    add_json,
    find_there,
    hub_address,
    report,
    seconds,
    seconds_above_0,
    tell,
    visiting,
    worker_name,
)

_LOOK: Final = 0.02  # seconds between two looks whether calls run, or a worker is there
_ASKING: Final = 30.0  # seconds in which a worker has to answer
_EXAMPLES: Final = (
    "give --examples package.module:examples, with arguments of its methods, and torch.export may capture it as it is"
)
"""Says at the command line what `REMEDY` says in Python."""


def add_commands(commands: Any) -> None:
    """Adds the commands to the subparsers of the command line."""
    serving = commands.add_parser(
        "serve",
        help="build a module, and serve it under a name until told to end",
        description="Builds a module, joins a group as a worker, and serves the module under a name. At SIGTERM or "
        "Ctrl-C it withdraws the name, lets running calls finish, and leaves. A second one ends it at once.",
    )
    serving.add_argument(
        "target",
        metavar="package.module:Class|FILE",
        help="a class or factory of modules, which may also return torchremote.exported(...); a .pt file that "
        "torch.jit.save wrote; or a .pt2 file of torch.export.save",
    )
    serving.add_argument("--name", required=True, help="under which it is served")
    serving.add_argument("--worker", type=worker_name, required=True, help="this worker's name in the group")
    serving.add_argument(
        "--interface",
        metavar="package.module:Interface",
        help="a .pt2 file needs none, unless it takes or returns classes of its own; this module registers those",
    )
    serving.add_argument(
        "--args", nargs="+", default=[], metavar="VALUE", help="for the class or factory: JSON, or else a string"
    )
    serving.add_argument(
        "--examples",
        metavar="package.module:examples",
        help="for a class or factory whose modules TorchScript refuses: arguments for each method, with which "
        "torch.export captures it; a mapping such as {'forward': (x,)}, or a function that returns one",
    )
    serving.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="the module begins with the state that is in this file, if it is there, and at_owner(stub).checkpoint() "
        "writes there",
    )
    serving.add_argument("--device", help="where the module is to be, such as cuda:0 (default: where it is made)")
    serving.add_argument("--eval", action="store_true", help="put the module into evaluation mode")
    serving.add_argument(
        "--replace",
        action="store_true",
        help="end the `torchremote serve` that has the worker's name, once the module is built, and take its place",
    )
    serving.add_argument(
        "--no-counts",
        action="store_true",
        help="do not count calls, for `torchremote top`, which takes a few percent of a small call",
    )
    serving.add_argument(
        "--metrics-port",
        type=_metrics_address,
        metavar="[HOST:]PORT",
        help="answer Prometheus there, on loopback unless HOST says otherwise; needs torchremote[metrics]",
    )
    serving.add_argument(
        "--drain",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="for running calls to finish at the end (default: %(default)g)",
    )
    add_address(serving, timeout=60.0)
    add_json(serving)
    serving.set_defaults(run=_serve)

    withdrawing = commands.add_parser("withdraw", help="stop serving a module under its name; running calls finish")
    withdrawing.add_argument("target", metavar="worker/name")
    withdrawing.add_argument(
        "--patience", type=seconds_above_0, metavar="SECONDS", help="for the worker's answer (default: --timeout)"
    )
    add_address(withdrawing)
    add_json(withdrawing)
    withdrawing.set_defaults(run=_withdraw)


# -- serve

_ending = Ending()
_drains: float | None = None  # how long the calls of this process's `serve` have at its end; None: it runs none


def _serve(options: argparse.Namespace) -> None:
    global _drains
    if not options.no_counts:
        _torch.start_counting()  # before anything is hosted
    tell(f"building {options.target}")
    examples = None if options.examples is None else find_examples(options.examples)
    module, interface = build_target(options.target, options.interface, options.args, options.device, options.eval)
    device = str(device_of(module))  # before calls may change it
    metrics = None if options.metrics_port is None else _start_metrics(options.metrics_port, options.worker)
    # Before joining: whoever finds the worker finds the name.
    try:
        serve(module, interface, options.name, examples=examples, checkpoint=options.checkpoint)
    except CreationError as error:
        raise CreationError(str(error).replace(REMEDY, _EXAMPLES)) from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})  # whoever started it may block them
    if options.replace:
        _end_other(options)
    _drains = options.drain
    tell(f"joining {options.address}")
    join(options.worker, options.address, timeout=options.timeout)
    about = {
        "worker": options.worker,
        "name": options.name,
        "interface": interface.__name__ if isinstance(interface, type) else interface.name,
        "device": device,
        "process": os.getpid(),
        "address": group_address(),
        "metrics": metrics,
    }
    text = "serving {interface} as {worker}/{name} on {device}, process {process}, hub {address}"
    if metrics is not None:
        text += ", metrics http://{metrics}/metrics"
    report(options, text.format(**about), event="serving", **about)
    _ending.wait()
    tell("withdrawing, and letting running calls finish")
    with suppress(ServedNameError):  # somebody has withdrawn it already
        withdraw(options.name)
    unfinished = _let_calls_finish(options.drain)
    has_left = leave_in_time(0)
    text = f"left {options.worker}" + (f", with {unfinished} calls unfinished" if unfinished else "")
    report(options, text, event="left", worker=options.worker, unfinished=unfinished)
    if not has_left:
        os._exit(0)


def _metrics_address(text: str) -> str:
    """Reads "port" or "host:port" for argparse. Returns host and port."""
    return hub_address(text if ":" in text else f"127.0.0.1:{text}")


def _start_metrics(address: str, worker: str) -> str:
    """Answers Prometheus at an address, whose port may be 0. Returns the address."""
    try:
        from .metrics import start_metrics
    except ImportError as error:
        raise TorchRemoteError(f"--metrics-port needs more: pip install 'torchremote[metrics]' ({error})") from error
    host, port = split_address(address)
    return written_address(host, start_metrics(port, host, worker))


def _end(number: int, frame: FrameType | None) -> None:
    """Ends `serve`. The second signal does what it does to every program."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _ending.request()


def _let_calls_finish(patience: float) -> int:
    """Waits until this worker runs no calls, for `patience` seconds at most. Returns how many it runs then."""
    until = time.monotonic() + patience
    while (running := _torch.running_calls()) and time.monotonic() < until:
        time.sleep(_LOOK)
    return running


def _end_other(options: argparse.Namespace) -> None:
    """Ends the `serve` that has the worker's name, and waits until it has left."""
    with visiting(options):
        if not _is_there(options.worker):
            return
        tell(f"ending the worker {options.worker!r}")
        drains = ask(options.worker, f"replace on {options.worker}", end_here, timeout=_ASKING)
        if drains is None:
            raise GroupError(f"{options.worker!r} is no `torchremote serve`, so it is not replaced; end it yourself")
        until = time.monotonic() + drains + options.timeout
        while _is_there(options.worker):
            if time.monotonic() > until:
                raise GroupError(f"{options.worker!r} was told to end, and is still there; end its process yourself")
            time.sleep(_LOOK)


def _is_there(worker: str) -> bool:
    return any(info.name == worker for info in _torch.worker_infos())


def end_here() -> float | None:
    """Tells this process's `serve` to end. Returns the seconds that its calls may take, or None if it runs none."""
    if _drains is not None:
        _ending.request()
    return _drains


# -- withdraw


def _withdraw(options: argparse.Namespace) -> None:
    worker, name = split_name(options.target)
    with visiting(options):
        find_there(worker, options.address)
        within = options.timeout if options.patience is None else options.patience
        ask(worker, f"withdraw on {worker}", withdraw_here, name, timeout=within)
    report(options, f"withdrew {options.target}", worker=worker, name=name)
