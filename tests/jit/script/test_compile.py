"""What TorchScript makes of the text: for every type, under awkward names, again after a failure, from many threads."""

import enum
import gc
import linecache
import threading
import traceback
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

import torchremote
from torchremote import _torch
from torchremote.errors import InternalError
from torchremote.jit import compile_contract, compile_interface
from torchremote.jit.lower import ir
from torchremote.jit.script.compile import script
from torchremote.jit.script.emit import emit
from torchremote.testing import interfaces
from torchremote.testing.strategies import AWKWARD

from ... import zoo


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(interfaces(zoo.NAMED))
def test_every_interface_compiles(interface):
    compiled = compile_interface(interface)
    for method in interface.methods:
        schema = _torch.find_function(compiled.endpoints[method.name]).schema
        assert len(schema.arguments) == 2 + len(method.arguments)  # the handle, the flags, and what crosses


class Special(enum.Enum):
    Ellipsis = 1
    NoneType = 2


class Choosing:
    def forward(self, special: Special) -> Special: ...


def test_a_member_may_be_called_as_torchscripts_parser_calls_its_own():
    compiled = compile_interface(Choosing)
    assert 'return ["Ellipsis", "NoneType"].index(value.name)' in compiled.source


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_left_as_it_was(collects):
    texts = [f"forward(x{number}: Tensor) -> Tensor" for number in range(8)]
    interfaces = [zoo.interface_of(text, f"Collected{collects}") for text in texts]
    threads = [threading.Thread(target=compile_interface, args=(interface,)) for interface in interfaces]
    (gc.enable if collects else gc.disable)()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert gc.isenabled() == collects
    finally:
        gc.enable()


@pytest.mark.parametrize("name", AWKWARD)
def test_an_argument_may_be_called(name):
    compile_interface(
        zoo.interface_of(f"forward({name}: Tensor, other: List[Tensor]) -> Tuple[Tensor, int]", f"A_{name}")
    )


@pytest.mark.parametrize("name", ["handle", "worker", "timeout", "lease", "torch", "super", "Tensor", "link", "find"])
def test_a_method_may_be_called(name):
    compile_interface(zoo.interface_of(f"{name}(x: Tensor) -> Tensor\nzz(x: Optional[Tensor]) -> int", f"M_{name}"))


@pytest.mark.parametrize("name", [*AWKWARD, "Stub", "Link", "Disconnected", "Local", "Remote", "Interface"])
def test_an_interface_may_be_called(name):
    assert compile_interface(zoo.interface_of("forward(x: Tensor) -> Tensor", f"__torch__.zoo.{name}")).source


def hosted(cls, module):
    """The endpoints of `cls`, called here and now, without RPC."""
    contract = compile_interface(cls).contract
    scripted = _torch.script_module(module, [m.name for m in contract.interface.methods])
    handle = torchremote.owner.modules.add(contract, scripted, torch.device("cpu"))
    return handle, lambda method, *args: _torch.find_function(contract.endpoints[method])(handle, *args, 0)


def test_an_endpoint_finds_its_module():
    _, first = hosted(zoo.Encoder, zoo.LinearEncoder(seed=1))
    _, second = hosted(zoo.Encoder, zoo.LinearEncoder(seed=2))
    x = torch.randn(3, 8)
    assert torch.equal(first("forward", x, 2.0), zoo.LinearEncoder(seed=1)(x, 2.0))
    assert torch.equal(second("forward", x, 2.0), zoo.LinearEncoder(seed=2)(x, 2.0))


def test_a_stale_or_invented_handle_is_refused():
    handle, call = hosted(zoo.Encoder, zoo.LinearEncoder())
    _, other = hosted(zoo.Encoder, zoo.LinearEncoder())
    endpoint = _torch.find_function(compile_interface(zoo.Encoder).endpoints["reset"])
    torchremote.owner.modules.remove(handle)
    for refused in (handle, handle + 1, -1, 0, -(2**63), 2**63 - 1):
        with pytest.raises(torch.jit.Error, match="stale handle"):
            endpoint(refused, 0)
    other("reset")
    with pytest.raises(torch.jit.Error, match="stale handle"):
        call("reset")


def test_an_index_is_used_again_and_a_handle_never():
    handles = []
    for _ in range(200):
        handle, _call = hosted(zoo.Counters, zoo.CountersModule())
        handles.append(handle)
        torchremote.owner.modules.remove(handle)
    assert len(set(handles)) == 200
    assert len({handle & 0x1FFFF for handle in handles}) == 1


class Raising(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > 0:
            raise ValueError("on purpose")
        return x


def test_generated_lines_stand_in_tracebacks_and_nowhere_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    interface = zoo.interface_of("forward(x: Tensor) -> Tensor", "OnDisk")
    compiled = compile_interface(interface)
    title = f"<torchremote OnDisk#{compiled.digest} hosting>"
    _, call = hosted(interface, Raising())
    linecache.checkcache()
    gc.collect()
    line = next(n for n, text in enumerate(linecache.getlines(title), 1) if "module.forward(x)" in text)
    assert compiled.sources["hosting"].splitlines()[line - 1].strip() == "result = hosted.module.forward(x)"
    with pytest.raises(torch.jit.Error, match=f'File "{title}", line {line}, in _r') as raised:
        call("forward", torch.ones(1))
    assert "result = hosted.module.forward(x)" in "".join(traceback.format_exception(raised.value))
    assert list(tmp_path.iterdir()) == []


def test_our_deprecation_warnings_stay_with_us_and_the_users_do_not():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compile_interface(zoo.interface_of("forward(x: Tensor) -> int", "Quiet"))
        assert [str(warning.message) for warning in caught if "torch.jit" in str(warning.message)] == []
        torch.jit.script(zoo.Missing())
    assert any("torch.jit.script" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("breaks_at", ["compile_interface", "compile_class", "register_bound", "compile_module"])
def test_a_failed_compile_leaves_nothing_behind(monkeypatch, breaks_at):
    interface = zoo.interface_of("forward(x: Tensor) -> Tensor\nzzz(x: Tensor) -> Tensor", f"Breaks_{breaks_at}")
    real, calls = getattr(_torch, breaks_at), []

    def breaking(*args):
        calls.append(args)
        if len(calls) == 2 or breaks_at == "compile_module":
            raise RuntimeError("out of luck")
        return real(*args)

    monkeypatch.setattr(_torch, breaks_at, breaking)
    with pytest.raises(InternalError, match=r"out of luck(.|\n)*1 \| # <torchremote"):
        compile_interface(interface)
    monkeypatch.undo()

    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

        def zzz(self, x: Tensor) -> Tensor:
            return x + 2

    compiled = compile_interface(interface)
    scripted = _torch.script_module(Module(), ["forward", "zzz"])
    handle = torchremote.owner.modules.add(compiled.contract, scripted, torch.device("cpu"))
    for method, expected in (("forward", 1), ("zzz", 2)):
        assert _torch.find_function(compiled.endpoints[method])(handle, torch.zeros(1), 0) == expected


def test_source_that_torchscript_refuses_is_shown():
    unit = ir.Unit("__torch__.broken", "<broken>", "", (ir.Function("f", (), "int", (ir.Return(ir.Literal("x")),)),))
    with pytest.raises(InternalError, match=r"\d \| def f\(\) -> int:"):
        script(unit, emit(unit), {})


def test_one_name_and_two_signatures_do_not_mix():
    def make(returns):
        namespace = {"__name__": "one.name"}
        exec(f"from torch import Tensor\nclass Same:\n  def forward(self, x: Tensor) -> {returns}: ...", namespace)
        return torchremote.remote_scriptable(namespace["Same"])

    tensors, ints = make("Tensor"), make("int")
    assert compile_interface(tensors).digest != compile_interface(ints).digest

    class Tensors(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class User(nn.Module):
        inner: tensors

        def __init__(self):
            super().__init__()
            self.inner = Tensors()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner.forward(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.jit.script(User())(torch.ones(1)) == 1
        User.__annotations__["inner"] = ints
        with pytest.raises(RuntimeError, match="not compatible with interface|Same"):
            torch.jit.script(User())


def test_equal_signatures_share_one_contract_and_keep_their_own_defaults():
    class Three:
        def forward(self, x: Tensor, k: int = 3) -> Tensor: ...

    class Four:
        def forward(self, x: Tensor, k: int = 4) -> Tensor: ...

    Three.__name__ = Four.__name__ = "Sharing"
    three, four = compile_interface(Three), compile_interface(Four)
    assert three.contract is four.contract
    assert three.stub is not four.stub


def test_many_threads_compile_one_interface_once():
    interface = zoo.interface_of("forward(x: Tensor) -> Dict[str, Tensor]", "Threaded")
    found, start = [], threading.Barrier(8)

    def work():
        start.wait()
        found.append(compile_contract(interface))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
