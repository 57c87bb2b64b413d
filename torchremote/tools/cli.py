"""The command line: `python -m torchremote COMMAND`. Commands that reach into a group have files of their own."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from .._version import __version__
from ..archive.inspect import stubs_in_archive
from ..errors import AbsentWorkerError, ArchiveError, GroupError, TorchRemoteError
from ..group.hub import run_hub
from ..group.open_files import raise_limit
from ..group.standard_files import open_standard_files
from ..native import build
from . import calling, emitted, listing, serving, top
from .doctor import examine
from .stub_files import file_of, stub_file
from .targets import UsageError, import_module
from .type_tables import tables
from .visiting import ADDRESS_VARIABLE, DEFAULT_ADDRESS, EXIT_FAILED, EXIT_LOST, EXIT_WRONG, chosen_address, hub_address

_INTERRUPTED: Final = 128 + signal.SIGINT
_BROKEN_PIPE: Final = 128 + signal.SIGPIPE
"""Exit statuses of programs that these signals end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit status."""
    open_standard_files()
    parser = argparse.ArgumentParser(
        prog="torchremote",
        description="Remote PyTorch modules.",
        epilog="Exit statuses: 0 done; 1 an error; 2 the command is written wrongly; 3 a worker is not in the group, "
        "is lost, or does not answer in time.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    emitted.add_commands(commands)

    inspect = commands.add_parser("inspect", help="list the stubs in an archive, without running anything of it")
    inspect.add_argument("archive", help="what torch.jit.save wrote")
    inspect.set_defaults(run=lambda options: print(_inspected(options.archive)))

    types = commands.add_parser("types", help="print the tables of types: what can cross, and how")
    types.set_defaults(run=lambda options: print(tables(), end=""))

    stubs = commands.add_parser("stubs", help="write .pyi files, from which type checkers and editors know stubs")
    stubs.add_argument("modules", metavar="package.module", nargs="+", help="or package.module:Interface, undecorated")
    stubs.add_argument("--check", action="store_true", help="write nothing, and fail if a file is not what it would be")
    stubs.set_defaults(run=lambda options: _write_stubs(options.modules, check=options.check))

    doctor = commands.add_parser("doctor", help="see whether this machine is fit, and what to do if it is not")
    doctor.set_defaults(run=lambda options: _examine())

    native = commands.add_parser("build-native", help="compile the part in C++, with which callers need no GIL")
    native.set_defaults(run=lambda options: print(build()))

    demo = commands.add_parser("demo", help="train a network split between two processes, and time calls to it")
    demo.add_argument("--quick", action="store_true", help="fewer epochs and calls")
    demo.add_argument("--output", default="demo-results", help="folder for the picture (default: %(default)s)")
    demo.set_defaults(run=_run_demo)

    hub = commands.add_parser("hub", help="hold a group together whose workers come, go, crash and come back")
    hub.add_argument(
        "--address",
        type=hub_address,
        default=chosen_address(),
        metavar="HOST:PORT",
        help="where to listen, with this machine's address that the workers reach; port 0 takes a free one "
        f"(default: ${ADDRESS_VARIABLE}, or else {DEFAULT_ADDRESS}, for workers of this machine alone)",
    )
    hub.set_defaults(run=lambda options: _run_hub(options.address))

    for group in (serving, calling, listing, top):
        group.add_commands(commands)

    options = parser.parse_args(arguments)
    try:
        status: int | None = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except TorchRemoteError as error:
        print(f"torchremote: {error}", file=sys.stderr)
        if isinstance(error, UsageError):
            return EXIT_WRONG
        return EXIT_LOST if isinstance(error, (ConnectionError, AbsentWorkerError)) else EXIT_FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes what is left when it ends
        return _BROKEN_PIPE
    return status or 0


def _examine() -> int:
    wrong = 0
    for finding in examine():
        print(finding, flush=True)
        wrong += finding.remedy is not None
    return int(wrong > 0)


def _inspected(archive: str) -> str:
    try:
        return "\n".join(map(str, stubs_in_archive(archive))) or "no stubs"
    except OSError as error:
        raise ArchiveError(f"{archive}: {error.strerror}") from error


def _write_stubs(targets: Sequence[str], check: bool) -> int:
    """Writes the `.pyi` of each module, or says which would change. Returns the exit status."""
    names: dict[str, list[str]] = {}
    for target in targets:
        module, _, name = target.partition(":")
        names.setdefault(module, []).extend([name] if name else [])
    stale = 0
    for module in names:
        imported = import_module(module, module)
        path, text = file_of(imported).with_suffix(".pyi"), stub_file(imported, names[module])
        try:
            if not check:
                path.write_text(text, "utf-8")
            is_current = path.exists() and path.read_text("utf-8", "replace") == text
        except OSError as error:
            raise TorchRemoteError(f"{path}: {error.strerror}") from error
        if not check:
            print(path)
        elif not is_current:
            stale += 1
            print(f"{path}: is not up to date; run `python -m torchremote stubs {' '.join(targets)}`", file=sys.stderr)
    return int(stale > 0)


def _run_hub(address: str) -> None:
    raise_limit()  # a worker takes one file
    try:
        run_hub(address)
    except OSError as error:
        raise GroupError(
            f"hub: cannot listen on {address}: {error.strerror}; use an address of this machine and a free port"
        ) from error


def _run_demo(options: argparse.Namespace) -> None:
    try:
        from .demo import run
    except ImportError as error:
        raise TorchRemoteError(f"the demo needs more: pip install 'torchremote[demo]' ({error})") from error
    run(options.output, quick=options.quick)
