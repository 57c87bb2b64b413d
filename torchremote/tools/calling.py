"""The command `call`: one call of a served module, with arguments by its signature."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from typing import Any, Final

import torch

from .._torch import WorkerInfo
from ..caller.creating.pending_stub import ask_for_served
from ..caller.messages.asking import ask
from ..errors import ArgumentError, CallTimeoutError
from ..jit import CompiledInterface, compile_interface
from ..jit.read.model import Method
from ..link.failures import MORE_TIME
from ..link.stubs import compiled_from
from ..link.timeouts import check_timeout
from ..owner.served import interface_here
from .results import as_text, check_output, save_file, to_json
from .targets import Served, UsageError, find_class, split_served
from .values import ValueReader
from .visiting import add_address, find_there, seconds, tell, visiting

_NEGATIVE: Final = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)


def add_commands(commands: Any) -> None:
    """Adds the command to the subparsers of the command line."""
    calling = commands.add_parser(
        "call",
        help="call a method of a served module, and print the result",
        description="Calls a method of a served module. The arguments are those of the method: in their order, or as "
        "--name value. Each is JSON, a string where one is declared, or a .pt or .npy file of tensors. "
        "`torchremote call worker/name.method --help` lists them.",
    )
    _add_options(calling)
    calling.add_argument("target", metavar="worker/name.method", help="without a method: forward")
    calling.add_argument("rest", metavar="ARGUMENT ...", nargs=argparse.REMAINDER, help="of the method")
    calling.set_defaults(run=_call)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", help="write the result there: .pt, .json, or .npy for one tensor")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--interface", metavar="package.module:Interface", help="(default: the one with which the module is served)"
    )
    parser.add_argument(
        "--patience",
        type=seconds,
        metavar="SECONDS",
        help="for each answer of the worker; 0 for no limit (default: RPC's for the call, and --timeout for what is "
        "asked before it)",
    )
    add_address(parser)


def _call(options: argparse.Namespace) -> None:
    target = split_served(options.target)
    # argparse leaves all that is behind the target: it does not know the method's arguments.
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    _add_options(own)
    behind: list[str] = options.rest
    options, rest = own.parse_known_args(behind, options)
    if options.output is not None:
        check_output(options.output)
    with visiting(options):
        timeout = check_timeout(options.patience)
        within = options.timeout if timeout is None else timeout
        worker = find_there(target.worker, options.address)
        compiled = _interface(target, worker, options.interface, within)
        method = compiled.interface.method(target.method)
        if method is None:
            names = ", ".join(one.name for one in compiled.interface.methods)
            raise UsageError(f"{options.target}: {compiled.interface.name} has no {target.method}; it has {names}")
        try:
            given = _arguments(rest, method, compiled, options.target, own._option_string_actions, _named(own, behind))
            stub: Any = ask_for_served(worker, compiled, target.name, timeout, within=within).wait()
            tell(f"calling {options.target}")
            with torch.no_grad():
                result = getattr(stub, method.name)(**given)
        except ArgumentError as error:
            raise UsageError(str(error)) from error
        except CallTimeoutError as error:
            raise CallTimeoutError(str(error).replace(MORE_TIME, "Give it more time with --patience")) from error
    if options.output is not None:
        try:
            save_file(options.output, result)
        except ArgumentError:
            print(as_text(result))  # the call has run, and may not run again
            raise
    elif options.json:
        print(to_json(result))
    else:
        print(as_text(result))


def _interface(target: Served, worker: WorkerInfo, interface: str | None, within: float) -> CompiledInterface:
    """Compiles the interface that was named, or asks the worker for the one with which it serves the module."""
    if interface is not None:
        return compile_interface(find_class(interface))
    name, text = ask(worker.name, f"call on {worker.name}", interface_here, target.name, timeout=within)
    return compiled_from(name, text)


def _named(own: argparse.ArgumentParser, behind: list[str]) -> set[str]:
    """Returns the options of the command itself that are named behind the target, such as "--json"."""
    before = behind[: behind.index("--")] if "--" in behind else behind
    return {one.partition("=")[0] for one in before} & set(own._option_string_actions)


def _arguments(
    rest: list[str],
    method: Method,
    compiled: CompiledInterface,
    target: str,
    own: Collection[str] = (),
    taken: Collection[str] = (),
) -> dict[str, Any]:
    """Reads the arguments of a method, which stand in its order or behind their names.

    Args:
        own: the options of the command itself, such as "--json".
        taken: those of them that were taken from behind the target.
    """
    where = f"{compiled.interface.name}.{method.name}"
    parser = argparse.ArgumentParser(
        prog=f"torchremote call {target}", description=method.declaration, conflict_handler="resolve"
    )
    parser.add_argument(
        "values", nargs="*", metavar="VALUE", help="the arguments before the *: JSON, a string, or a file of tensors"
    )
    for argument in method.arguments:
        parser.add_argument(f"--{argument.name}", dest=f"--{argument.name}", metavar="VALUE", help=argument.declaration)
        if f"--{argument.name}" in taken:
            parser.error(
                f"--{argument.name} is an option of `torchremote call` and an argument of {method.name}: write the "
                f"option before {target}, and the argument in its place in the order, without its name"
            )
    # argparse knows -1 and -0.5 from an option, and takes -1e5 and -Infinity for one.
    parser._negative_number_matcher = _NEGATIVE
    read = parser.parse_intermixed_args(rest)
    # One that has the name of an option of the command itself can be given in no other way than in the order.
    named = [one.name for one in method.arguments if one.keyword_only and f"--{one.name}" not in own]
    names = [argument.name for argument in method.arguments]
    in_order = [name for name in names if name not in named]
    if len(read.values) > len(in_order):
        by_name = f"; those behind the * need their names: {', '.join(f'--{name}' for name in named)}" if named else ""
        parser.error(f"{len(read.values)} values for {len(in_order)} argument{'s' * (len(in_order) != 1)}{by_name}")
    texts = dict(zip(in_order, read.values, strict=False))
    for name in names:
        text = getattr(read, f"--{name}")
        if text is not None and name in texts:
            parser.error(f"{name}: given twice, as value {in_order.index(name) + 1} and as --{name}")
        if text is not None:
            texts[name] = text
    missing = [
        argument.name for argument in method.arguments if argument.name not in texts and not argument.has_default
    ]
    if missing:
        parser.error(f"no value for {', '.join(missing)}")
    reader = ValueReader(compiled.contract.classes)
    types = {argument.name: argument.type for argument in method.arguments}
    return {name: reader.read(text, types[name], f"{where}.{name}") for name, text in texts.items()}
