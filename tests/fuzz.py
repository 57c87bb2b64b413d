"""Random interfaces, each through everything: `make fuzz` runs thousands, tests/test_fuzz.py a small share.

For an interface: its canonical text parses back, its source is the same when emitted twice, and a module that passes
on what it is given, some of it changed, gives through a stub what it gives here: as to a module on the CPU and as to
one on an accelerator, sync, async and as many calls, from Python, and from TorchScript as far as torch can convert.
"""

import argparse
import collections
import concurrent.futures
import io
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import hypothesis
import torch
import torch.distributed.rpc as rpc
from hypothesis import strategies as st

from torchremote import _torch, testing
from torchremote.archive.inspect import stubs_in_archive
from torchremote.caller.stubs.stub import attach, make_stub
from torchremote.errors import NotSavableError
from torchremote.jit import compile_interface, has_cuda
from torchremote.jit.lower import SourceNames
from torchremote.jit.read.model import Interface
from torchremote.jit.read.parse import parse_interface
from torchremote.jit.read.types import TENSOR, AnyType, NamedTupleType, ScalarType, TupleType, UnionType, items_of, walk
from torchremote.link.route import Route, route_of
from torchremote.testing.check import WAYS
from torchremote.testing.strategies import draw_calls

from . import owner_process as remote
from . import zoo
from .emitted import units

# TorchScript keeps what it compiles: an interface that is compiled and called costs each process about 7 MiB. So two
# processes run this many, and end.
ROUND = 200

_numbers = itertools.count()


@st.composite
def echoes(draw):
    """Interfaces whose methods return their arguments: so a module is known for each."""
    drawn = draw(testing.interfaces(zoo.NAMED))
    hypothesis.assume(any(method.arguments for method in drawn.methods))
    methods = []
    for method in drawn.methods:
        returns = TupleType(tuple(argument.type for argument in method.arguments))
        methods.append(type(method)(method.name, method.arguments, returns))
    return Interface(f"__torch__.fuzz.Fuzzed{next(_numbers)}", tuple(methods))


def module_source(interface):
    """The text of a module's methods: what has an opposite at the top of an argument is changed, the rest passed on."""
    source_names = SourceNames(interface)
    lines = []
    for number, method in enumerate(interface.methods):
        own = source_names.scope([argument.name for argument in method.arguments]).fresh("me")
        parameters = [
            own,
            *(f"{argument.name}: {source_names.declared(argument.type)}" for argument in method.arguments),
        ]
        changed = "".join(f"{_changed(argument.name, argument.type)}, " for argument in method.arguments)
        lines += [
            f"def method_{number}({', '.join(parameters)}) -> {source_names.declared(method.returns)}:",
            f"    return ({changed})",
        ]
    return "\n".join(lines) + "\n"


def _changed(name, type):
    match type:
        case ScalarType("int"):
            return f"{name} ^ 1"
        case ScalarType("float" | "complex"):
            return f"-{name}"
        case ScalarType("bool"):
            return f"not {name}"
        case ScalarType("str"):
            return f'{name} + "."'
    if type == TENSOR:
        return f"{name}.unsqueeze(0)"
    return name


def check_pure(interface):
    """Checks what needs no second process."""
    again = parse_interface(interface.qualified_name, interface.text)
    assert (again.text, again.digest) == (interface.text, interface.digest)
    declared = parse_interface(interface.qualified_name, interface.declaration)
    assert repr(declared) == repr(interface)  # not ==, to which 0.0 is False
    assert units(interface) == units(interface)


def check_calls(interface, owner, draw, ways=WAYS):
    """A module gives through a stub what it gives here."""
    compiled = compile_interface(interface)
    source = module_source(interface)
    local = remote.module_of(compiled.contract, source)
    asked = (interface.name, interface.text, source)
    handles = {moves: rpc.rpc_sync(owner, remote.host_source, (*asked, moves)) for moves, _ in ways}
    try:
        for moves, devices in ways:
            stub = make_stub(compiled, Route(owner, None, "cpu", handles[moves], devices, None, None))
            archived = through_an_archive(compiled, route_of(stub))
            for method in interface.methods:
                args, kwargs = draw(draw_calls(method, compiled.contract.classes, {}))
                expected = here(local, stub, method, args, kwargs)
                through = getattr(stub, method.name)(*args, **kwargs)
                deferred = getattr(stub, f"{method.name}_async")(*args, **kwargs).wait()
                call = arguments_of(stub, method, args, kwargs)
                many = getattr(stub, method.many.name)([call, tuple(call.values())])
                assert testing.same(through, expected), (interface.text, args, kwargs, through, expected)
                assert testing.same(many, [expected] * 2), (interface.text, args, kwargs, many, expected)
                assert testing.same(deferred, expected), (interface.text, args, kwargs, deferred, expected)
                if archived is not None:
                    loaded = getattr(archived, method.name)(*args, **kwargs)
                    assert testing.same(loaded, expected), (interface.text, args, kwargs, loaded, expected)
                # With devices, TorchScript waits for them if torch is built for CUDA. The CPU stands for one here.
                if can_be_converted(method) and not (devices and has_cuda()):
                    scripted = _torch.scripted_method(stub, method.name)(*args, **kwargs)
                    seen = as_torchscript_shows(expected, method.returns)
                    assert testing.same(plain(scripted), plain(seen)), (interface.text, args, kwargs, scripted, seen)
                    many = _torch.scripted_method(stub, method.many.name)([tuple(call.values())])
                    assert testing.same(plain(many), [plain(seen)]), (interface.text, args, kwargs, many, seen)
    finally:
        rpc.rpc_sync(owner, remote.release_all, (list(handles.values()),))


def through_an_archive(compiled, route):
    """A stub of the same module that was saved and loaded; None for what torch cannot save."""
    file = io.BytesIO()
    try:
        torch.jit.save(make_stub(compiled, replace(route, name="fuzzed")), file)
    except NotSavableError:
        return None
    file.seek(0)
    (saved,) = stubs_in_archive(file)
    assert repr(saved.interface) == repr(compiled.interface)
    file.seek(0)
    return attach(torch.jit.load(file), compiled, route)


def here(module, stub, method, args, kwargs):
    return getattr(module, method.name)(*arguments_of(stub, method, args, kwargs).values())


def arguments_of(stub, method, args, kwargs):
    """All arguments of a call, by name, in the order in which they cross."""
    bound = type(stub).__dict__[method.name].__signature__.bind(stub, *args, **kwargs)
    bound.apply_defaults()
    return {argument.name: bound.arguments[argument.name] for argument in method.arguments}


def can_be_converted(method):
    """Says whether torch takes every Python value of the arguments."""
    for argument in method.arguments:
        for part in walk(argument.type):
            if isinstance(part, (UnionType, AnyType)) or any(
                item == ScalarType("dtype") for item in items_of(part) if not isinstance(part, TupleType)
            ):
                return False
            if isinstance(part, NamedTupleType) and not part.items:
                return False
    return True


class Tally:
    """Counts how many interfaces were run, and how deep their types were."""

    def __init__(self):
        self.count, self.depths = 0, collections.Counter()

    def add(self, interface):
        self.count += 1
        self.depths[max(depth(type) for method in interface.methods for type in method.types)] += 1

    def __iadd__(self, other):
        self.count += other.count
        self.depths += other.depths
        return self

    def __str__(self):
        depths = ", ".join(f"{count} of depth {depth}" for depth, count in sorted(self.depths.items()))
        return f"{self.count} interfaces, {depths}"


def depth(type):
    return 1 + max(map(depth, items_of(type)), default=0)


def as_torchscript_shows(value, type):
    """`value` as torch converts it for Python: a dtype is an int there."""
    if isinstance(value, torch.dtype):
        return testing_codes()[value]
    if isinstance(value, (list, tuple)):
        parts = [as_torchscript_shows(part, type) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, dict):
        return {as_torchscript_shows(k, type): as_torchscript_shows(v, type) for k, v in value.items()}
    return value


def testing_codes():
    from torchremote.link.scalars import dtype_codes

    return dtype_codes()


def plain(value):
    """NamedTuples as tuples: torch makes a class of its own for them."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, list):
        return list(map(plain, value))
    if isinstance(value, dict):
        return {plain(key): plain(part) for key, part in value.items()}
    return value


def run(count, seed):
    """Fuzzes `count` interfaces, in rounds that share the machine's cores, and prints how it goes."""
    rounds = [min(ROUND, count - done) for done in range(0, count, ROUND)]
    total, began = Tally(), time.monotonic()
    spawning = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), spawning, max_tasks_per_child=1) as pool:
        for tally in pool.map(run_round, rounds, itertools.count(seed)):
            total += tally
            print(f"{time.monotonic() - began:.0f} s: {total}", flush=True)
    print("no failure")


def run_round(count, seed):
    """Fuzzes `count` interfaces against a process of their own."""
    torch.set_num_threads(1)
    tally = Tally()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # each example compiles for good: what fails is shown as it is
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(echoes(), st.data())
    def fuzz(interface, data):
        check_pure(interface)
        check_calls(interface, "owner", data.draw)
        tally.add(interface)

    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{folder}/store"
        process = subprocess.Popen([sys.executable, "-m", "tests.owner_process", store])
        try:
            options = rpc.TensorPipeRpcBackendOptions(init_method=store, rpc_timeout=30)
            rpc.init_rpc("caller", rank=0, world_size=2, rpc_backend_options=options)
            fuzz()
            rpc.shutdown()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            process.wait()
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interfaces", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run(options.interfaces, options.seed)
