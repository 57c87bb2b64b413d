"""Modules that AOTInductor compiled: what they return and refuse, here and on an owner whose GIL is held."""

import io
import os
import resource
import subprocess
import sys
import threading
import time
import zipfile
from typing import Dict, List, NamedTuple, Optional

import pytest
import torch
import torch.distributed.rpc as rpc
from torch import Tensor, nn

import torchremote as tr
from torchremote import _torch, native
from torchremote.errors import ArgumentError, CreationError, MismatchError, RemoteError
from torchremote.jit.export import compiled as compiling
from torchremote.owner.checks.self_changing import change_of
from torchremote.owner.compiled import check_place

from ..waiting import holding_the_gil

# AOTInductor compiles for some ten seconds.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(400)]


class Scored(NamedTuple):
    score: Tensor
    count: int
    mask: Optional[Tensor]


@tr.remote_scriptable
class Scorer:
    def forward(self, x: Tensor, y: Tensor, scale: float = 2.0, mode: int = 1) -> Scored: ...

    def parts(self, given: List[Tensor]) -> Dict[str, Tensor]: ...


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x, y, **options):
        score = self.linear(x).relu() * options["scale"] + y
        return Scored(score, x.shape[0] + options["mode"], None)

    def parts(self, given):
        return {"joined": given[0] + given[1], "first": given[0]}


def seeded():
    torch.manual_seed(3)
    return Model().eval()


def inputs(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 8, generator=generator), torch.randn(size, 4, generator=generator)


EXAMPLES = {"forward": inputs(3), "parts": ([torch.ones(5), torch.ones(5)],)}


@pytest.fixture(scope="module")
def module():
    return tr.compiled(seeded(), Scorer, EXAMPLES)


@pytest.fixture(scope="module")
def file(module, tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "model.pt2"
    torch.jit.save(module, path)
    return path


def check(scorer, x, y):
    found, wanted = scorer(x, y), seeded()(x, y, scale=2.0, mode=1)
    torch.testing.assert_close(found.score, wanted.score.detach())
    assert (found.count, found.mask) == (wanted.count, None)


# -- what it returns


@pytest.mark.parametrize("size", [0, 1, 2, 3, 17, 1000])
def test_it_returns_what_the_module_returns_for_any_size(module, size):
    check(module, *inputs(size))


def test_tensors_lie_in_memory_as_they_like(module):
    x, y = inputs(6)
    check(module, x.t().contiguous().t(), y.t().contiguous().t())
    check(module, inputs(12)[0][::2], y)
    check(module, x, torch.complex(y, y).conj().imag)  # its sign is only noted, not computed
    check(module, x[0].expand(6, 8), y[:, :1].expand(6, 4))


def test_containers_are_those_of_the_interface(module):
    found = module.parts([torch.ones(7), torch.ones(7)])
    assert torch.equal(found["joined"], torch.full((7,), 2.0))
    assert torch.equal(found["first"], torch.ones(7))


def test_calls_at_once_are_right(module):
    wrong = []

    def call(seed):
        for size in range(1, 40):
            x, y = inputs(size, seed)
            if not torch.allclose(module(x, y).score, seeded_here(x, y, scale=2.0, mode=1).score):
                wrong.append((seed, size))

    seeded_here = seeded()
    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- what it refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (torch.ones(3, 8, dtype=torch.float64), torch.ones(3, 4)),
            r"x: compiled for float32 \[any, 8\]; came float64",
        ),
        ((torch.ones(3, 7), torch.ones(3, 4)), r"x: compiled for float32 \[any, 8\]; came float32 \[3, 7\]"),
        ((torch.ones(8), torch.ones(3, 4)), r"x: compiled for float32 \[any, 8\]; came float32 \[8\]"),
        ((torch.ones(3, 8), torch.ones(2, 4)), r"y: compiled for float32 \[x.size\(0\), 4\]; came float32 \[2, 4\]"),
        ((torch.ones(3, 8).to_sparse(), torch.ones(3, 4)), r"x: compiled for float32 \[any, 8\]; came .*not strided"),
        ((torch.ones(3, 8, device="meta"), torch.ones(3, 4)), "x: compiled for cpu; came meta"),
        ((torch.ones(3, 8, requires_grad=True), torch.ones(3, 4)), "x: compiled for calls without gradients"),
        ((torch.ones(3, 8), torch.ones(3, 4), 3.0), "scale: compiled for 2.0; came 3"),
        ((torch.ones(3, 8), torch.ones(3, 4), 2.0, 2), "mode: compiled for 1; came 2"),
    ],
)
def test_calls_that_it_is_not_right_for(module, arguments, said):
    with pytest.raises(torch.jit.Error, match=said):
        module(*arguments)


def test_without_gradients_a_tensor_may_require_one(module):
    x, y = inputs(3)
    with torch.no_grad():
        check(module, x.requires_grad_(), y)


def test_what_aotinductor_assumes_is_compared_too(tmp_path):
    """It sums few numbers in one go, and many in another way; it does not look which of them come."""

    class Sum(nn.Module):
        def forward(self, x):
            return x.sum()

    module = tr.compiled(Sum(), OfOne, {"forward": (torch.ones(100),)})
    assert module(torch.ones(1)) == 1
    with pytest.raises(torch.jit.Error, match=r"x.size\(0\) <= \d+.*; came x.size\(0\) of 100000"):
        module(torch.ones(100000))
    both = tr.compiled(Sum(), OfOne, {"forward": [(torch.ones(100),), (torch.ones(100000),)]})
    assert [both(torch.ones(n)).item() for n in (50, 200000)] == [50, 200000]


@tr.remote_scriptable
class OfOne:
    def forward(self, x: Tensor) -> Tensor: ...


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return x + self.seen


class Overwrites(nn.Module):
    def forward(self, x):
        return x.mul_(2)


@torch.library.custom_op("torchremote_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x):
    return torch.empty_like(x)


class OfPython(nn.Module):
    def forward(self, x):
        return twice(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Counts(), "OfOne.forward: it changes its buffer .*seen, which a compiled module would lose; host it with"),
        (Overwrites(), "OfOne.forward: it changes its argument .*, which a compiled module would lose"),
        (OfPython(), "OfOne.forward: its graph has the operator torchremote_test::twice, which is written in Python"),
    ],
)
def test_methods_that_it_would_not_do_right(model, said):
    with pytest.raises(CreationError, match=said):
        tr.compiled(model, OfOne, {"forward": (torch.ones(3),)})


def test_what_cannot_be_compiled(file):
    with pytest.raises(ArgumentError, match="compiled: no interface; give the class"):
        tr.compiled(nn.Identity())
    with pytest.raises(ArgumentError, match="examples: none; give one for each method of OfOne"):
        tr.compiled(nn.Identity(), OfOne)
    with pytest.raises(MismatchError, match="cannot be compiled; give a torch.nn.Module that is not scripted"):
        tr.compiled(torch.jit.script(nn.Identity()), OfOne, {"forward": (torch.ones(3),)})
    with pytest.raises(ArgumentError, match="a file has its interface and examples; give the path alone"):
        tr.compiled(file, OfOne)
    program = torch.export.export(nn.Identity(), (torch.ones(3),))
    with pytest.raises(ArgumentError, match="programs are exported already"):
        tr.compiled({"forward": program}, OfOne, {"forward": (torch.ones(3),)})


def test_an_error_of_the_compiler_is_ours(monkeypatch):
    def fails(program, path):
        raise RuntimeError("no g++\nand more")

    monkeypatch.setattr(compiling._torch, "compile_ahead", fails)
    with pytest.raises(
        CreationError, match="OfOne.forward: AOTInductor cannot compile it: RuntimeError: no g.*host it"
    ):
        tr.compiled(nn.Identity(), OfOne, {"forward": (torch.ones(3),)})


# -- programs


def test_programs_are_compiled_as_they_were_exported():
    class Doubled(nn.Module):
        def forward(self, x, n):
            return x * 2 + n

    class Two:
        def forward(self, x: Tensor, n: int) -> Tensor: ...

    def program(dynamic):
        return torch.export.export(
            Doubled(), (torch.ones(3, 4), 5), dynamic_shapes=({0: torch.export.Dim("n", min=2, max=9)}, dynamic)
        )

    module = tr.compiled({"forward": program(None)}, Two)
    assert torch.equal(module(torch.ones(7, 4), 5), torch.full((7, 4), 7.0))
    with pytest.raises(torch.jit.Error, match=r"x: compiled for float32 \[>= 2 and <= 9, 4\]; came float32 \[10, 4\]"):
        module(torch.ones(10, 4), 5)
    with pytest.raises(torch.jit.Error, match=r"n: compiled for 5; came 6"):
        module(torch.ones(3, 4), 6)
    with pytest.raises(CreationError, match="n is a number of any value, which AOTInductor does not take"):
        tr.compiled({"forward": program(torch.export.Dim.DYNAMIC)}, Two)


# -- files


def test_a_file_has_all_of_it(file):
    check(tr.compiled(str(file)), *inputs(5))
    again = io.BytesIO()
    torch.jit.save(tr.compiled(file), again)
    again.seek(0)
    check(tr.load(again), *inputs(5))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_files_that_are_none(tmp_path, file):
    path = tmp_path / "other.pt2"
    with pytest.raises(ArgumentError, match=r"compiled: there is no file .*other.pt2"):
        tr.compiled(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ArgumentError, match=r"other.pt2 cannot be read: .*; give one that torch.jit.save wrote"):
        tr.compiled(path)
    path.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(ArgumentError, match=r"other.pt2 cannot be read: .*; give one that torch.jit.save wrote"):
        tr.compiled(path)
    torch.jit.save(torch.jit.script(nn.Identity()), path)
    with pytest.raises(ArgumentError, match=r"other.pt2 has another module; .* or load it with torchremote.load"):
        tr.compiled(path)
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(3, 2),))
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    with pytest.raises(ArgumentError, match=r"is a package of AOTInductor alone, which does not say for which calls"):
        tr.compiled(path)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (
            torch.__version__.partition("+")[0].encode(),
            b"9",
            r"compiled with torch 9.*, and this is .*; compile it again",
        ),
        (b"ssse3", b"xsse3", r"compiled for a processor with xsse3.*; compile it on one as this"),
        (b"asimd", b"xsimd", r"compiled for a processor with xsimd.*; compile it on one as this"),
    ],
)
def test_a_file_of_another_torch_or_processor(tmp_path, file, was, now, said):
    path = tmp_path / "other.pt2"
    if was not in state_of(file):
        assert was in (b"ssse3", b"asimd")  # of the other kind of processor
        return
    with_state(file, path, was, now.ljust(len(was), b"0"))
    with pytest.raises(CreationError, match=f"compiled: .*other.pt2: the module was {said}"):
        tr.compiled(path)


def state_of(path):
    """The names and words in the state of a saved module."""
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


def with_state(path, other, was, now):
    """Writes `path` to `other`, with `was` in the state replaced by `now`, which is as long."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            new.writestr(item, content.replace(was, now) if item.filename.endswith("/data.pkl") else content)


def test_saved_again_it_needs_what_it_was_compiled_for(tmp_path, file):
    """A processor that can do more loads it and saves it: the one that compiled it can still load it."""
    other, again = tmp_path / "other.pt2", tmp_path / "again.pt2"
    extra = b"ssse3" if b"ssse3" in state_of(file) else b"asimd"
    with_state(file, other, extra, b" " * len(extra))
    torch.jit.save(tr.compiled(other), again)
    assert extra not in state_of(again)
    check(tr.compiled(again), *inputs(5))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_it_can_be_loaded_with_a_device_for_the_rest(tmp_path, file, device):
    """torch moves the bytes of the code to that device, too. The code runs where it was compiled."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    check(torch.jit.load(file, map_location=device), *inputs(5))
    torch.jit.save(torch.jit.load(file, map_location=device), tmp_path / "again.pt2")
    check(tr.compiled(tmp_path / "again.pt2"), *inputs(5))


_LOADS = """
import ctypes, os, sys, torch, torchremote
module = torch.jit.load(sys.argv[1])
ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))  # as an owner has it, until the process ends
before = os.listdir(os.environ["TMPDIR"])
assert before
child = os.fork()
if child == 0:
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert os.listdir(os.environ["TMPDIR"]) == before
"""


def test_what_was_unpacked_is_gone_when_the_process_ends(tmp_path, file):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", _LOADS, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == []


def test_its_code_may_lie_in_memory_in_any_way(tmp_path):
    program = torch.export.export(nn.ReLU(), (torch.ones(3),))
    _torch.compile_ahead(program, tmp_path / "model.pt2")
    archive = torch.frombuffer(bytearray((tmp_path / "model.pt2").read_bytes()), dtype=torch.uint8)
    spread = torch.stack([archive, archive], 1)[:, 0]
    assert native.package(spread, "cpu").run([torch.tensor([-1.0, 2.0, 3.0])])[0].tolist() == [0.0, 2.0, 3.0]


def test_a_device_without_data_is_refused(file):
    with pytest.raises(RuntimeError, match="torchremote: a compiled module cannot be loaded to meta, which has no"):
        native.package(torch.empty(10000, dtype=torch.uint8, device="meta"), "cpu")
    with pytest.raises(RuntimeError, match="torchremote: a compiled module cannot be loaded to meta, which has no"):
        torch.jit.load(file, map_location="meta")


def test_a_full_disk_is_said(file):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CreationError, match=r"\d+ bytes of the module cannot be written to .*; make room there"):
            tr.compiled(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# -- on an owner


def test_an_owner_loads_it_by_its_path(owner, file):
    stub = tr.create(owner, Scorer, tr.compiled, args=(str(file),))
    check(stub, *inputs(9))
    check(stub, inputs(12)[0][::2], inputs(6)[1])
    assert torch.equal(stub.parts([torch.ones(2), torch.ones(2)])["joined"], torch.full((2,), 2.0))
    with pytest.raises(
        RemoteError, match=r"(?s)Scorer.forward on owner: .* 0: y: compiled for float32 \[x.size\(0\), 4\]; came"
    ):
        stub(inputs(3)[0], inputs(2)[1])
    many = stub.forward_many([inputs(size) for size in range(1, 30)])
    assert [one.count for one in many] == list(range(2, 31))


def test_it_is_sent_and_served_as_any_other(owner, module):
    assert change_of(module) is None  # so calls run at once
    check(tr.create(owner, Scorer, module), *inputs(4))
    tr.serve(module, Scorer, "compiled")
    tr.withdraw("compiled")


def test_a_file_that_the_owner_does_not_have(owner):
    with pytest.raises(CreationError, match=r"compiled: there is no file /absent.pt2"):
        tr.create(owner, Scorer, tr.compiled, args=("/absent.pt2",))


def test_a_call_does_not_wait_for_the_owners_gil(owner, file):
    stub = tr.create(owner, Scorer, tr.compiled, args=(str(file),))
    x, y = inputs(3)
    for _ in range(5):
        stub(x, y)
    held = holding_the_gil(owner, 1.0)
    seconds = []
    for _ in range(3):  # a machine that does other things may be late once
        start = time.monotonic()
        stub(x, y)
        seconds.append(time.monotonic() - start)
    assert not held.done()
    assert min(seconds) < 0.1
    held.wait()


@pytest.mark.parametrize(
    "act",
    [
        lambda at: at.state_dict(),
        lambda at: at.load_state_dict({}),
        lambda at: at.parameters(),
        lambda at: at.requires_grad_(False),
        lambda at: at.checkpoint("/tmp/absent/compiled.pt"),
    ],
    ids=["state_dict", "load_state_dict", "parameters", "requires_grad_", "checkpoint"],
)
def test_it_has_no_state(owner, file, act):
    stub = tr.create(owner, Scorer, tr.compiled, args=(str(file),))
    with pytest.raises((ArgumentError, RemoteError), match="compiled by AOTInductor, .* compile that again"):
        act(tr.at_owner(stub))


def test_it_is_where_it_was_compiled(module):
    check_place(module, torch.device("cpu"))
    check_place(nn.Linear(2, 2), torch.device("cuda:0"))
    with pytest.raises(CreationError, match="was compiled on cpu, and cannot be on cuda:0; create it there, or host"):
        check_place(module, torch.device("cuda:0"))


def test_a_device_that_is_not_here(tmp_path, monkeypatch):
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(3, 2),))
    path, other = tmp_path / "model.pt2", tmp_path / "other.pt2"
    _torch.compile_ahead(program, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for item in old.infolist():
            new.writestr(item, old.read(item).replace(b'"cpu"', b'"xpu"'))
    archive = torch.frombuffer(bytearray(other.read_bytes()), dtype=torch.uint8)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    monkeypatch.setenv("TMPDIR", str(unpacked))
    with pytest.raises(RuntimeError, match="torchremote: the module was compiled for xpu, and cannot be loaded: .*xpu"):
        native.package(archive, "xpu")
    assert os.listdir(unpacked) == []


_DROPS = """
import os, sys, torch, torchremote
module = torch.jit.load(sys.argv[1])
before = os.listdir(os.environ["TMPDIR"])
child = os.fork()
if child == 0:
    del module
    assert os.listdir(os.environ["TMPDIR"]) == before
    module = torch.jit.load(sys.argv[1])
    assert len(os.listdir(os.environ["TMPDIR"])) == 2 * len(before)
    import ctypes
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert os.listdir(os.environ["TMPDIR"]) == before
"""


def test_a_forked_process_deletes_what_it_unpacked_alone(tmp_path, file):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", _DROPS, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == []


def test_a_compiler_with_a_library_of_its_own_is_refused(monkeypatch):
    def compile_ahead(program, path):
        with zipfile.ZipFile(path, "w") as package:
            package.writestr("model/data/aotinductor/model/wrapper.so", b"\0libtorch_cpu.so\0")

    monkeypatch.setattr(_torch, "compile_ahead", compile_ahead)
    monkeypatch.setenv("CXX", "/opt/gcc/bin/g++")
    with pytest.raises(
        CreationError, match=r"Scorer.forward: /opt/gcc/bin/g\+\+ links a C\+\+ library of its own .* set CXX"
    ):
        tr.compiled(seeded(), Scorer, EXAMPLES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(owner, tmp_path):
    module = tr.compiled(seeded().cuda(), Scorer, {"forward": inputs(3), "parts": EXAMPLES["parts"]})
    torch.jit.save(module, tmp_path / "model.pt2")
    file = str(tmp_path / "model.pt2")
    tr.serve(module, Scorer, "compiled on the GPU")
    served = tr.connect(rpc.get_worker_info().name, Scorer, "compiled on the GPU")
    x, y = inputs(6)
    for stub in (tr.create(f"{owner}/cuda:0", Scorer, tr.compiled, args=(file,)), served):
        score = stub(x, y).score
        torch.testing.assert_close(score.cpu(), seeded()(x, y, scale=2.0, mode=1).score, atol=1e-3, rtol=1e-3)
    tr.withdraw("compiled on the GPU")
    with pytest.raises(torch.jit.Error, match="x: compiled for cuda:0; came cpu"):
        module(x, y)


def test_its_mode_stays(owner, file, module):
    stub = tr.create(owner, Scorer, tr.compiled, args=(str(file),))
    tr.at_owner(stub).eval()
    with pytest.raises(ArgumentError, match=r"compiled in evaluation mode alone, .* call \.train\(\) before it is"):
        tr.at_owner(stub).train()
    changed = tr.compiled(file).train()
    with pytest.raises(
        torch.jit.Error, match=r"Scorer.forward: the module was compiled in evaluation mode, .* call eval"
    ):
        changed(*inputs(3))
