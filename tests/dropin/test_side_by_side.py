"""torch's RemoteModule and ours, side by side: each behaviour is tried with both, and what comes of it is compared.

What is meant to differ is in `DIFFERENT`, with what comes of it in either, and what is meant to raise in `RAISE`.
"""

import contextlib
import copy
import importlib
import io
import pickle
import re
import subprocess
import sys
import warnings

import pytest
import torch
import torch.distributed.autograd as dist_autograd
import torch.distributed.nn.api.remote_module as theirs
import torch.distributed.rpc as rpc
from torch import nn
from torch.distributed.optim import DistributedOptimizer

import torchremote
import torchremote.dropin.remote_module as ours
from torchremote import testing

from .torch_interface import CallsIt, RemoteScorer, Scorer, ScorerModule

X = torch.linspace(-1, 1, 6).reshape(2, 3)
BEHAVIOURS = []


@pytest.fixture(autouse=True, scope="module")
def their_functions(owner):
    """torch's makes its template, on the owner as well, when it is imported."""
    rpc.rpc_sync(owner, import_here, (theirs.__name__,))


def import_here(name):
    importlib.import_module(name)


def behaviour(function):
    BEHAVIOURS.append(function)
    return function


def outcome(function, api, owner):
    """What it returns, or what it raises: the built-in exception, and the first line of its message, which may be
    quoted in another."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit.script is deprecated
            return function(api, owner)
    except Exception as error:
        builtin = next(cls for cls in type(error).__mro__ if cls.__module__ == "builtins")
        return builtin, re.split(r"\n|\\+n", str(error))[0]


# -- on the owner


class Anything(nn.Module):
    """Takes all kinds of arguments, and says what came."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 2.0))

    def forward(self, *args, **kwargs):
        return args, kwargs


class Raises(nn.Module):
    def forward(self, x):
        raise KeyError("no such row")


class CannotBeMade(nn.Module):
    def __init__(self):
        super().__init__()
        raise OSError("no weights here")


class NoModule:
    def __repr__(self):
        return "a NoModule"


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


def training_of(rref):
    return rref.local_value().training


def told_about(module):
    return list(module.__dict__), module.on, module.device, module.is_device_map_set, module.is_scriptable


def call_here(module, *args):
    return module.forward(*args), module.forward_async(*args).wait()


def device_of_parameters(rref):
    return [str(parameter.device) for parameter in rref.local_value().parameters()]


# -- placing


@pytest.mark.parametrize(
    "where",
    "owner owner/cpu rank:1 rank:1/cpu / /cpu owner/ owner/foo owner/cpu/cpu rank:x rank:9 nobody owner/cpu2".split(),
)
def test_where(owner, where):
    def place(api, owner):
        module = api.RemoteModule(where, ScorerModule)
        return module.on, module.device, module.is_device_map_set, module.forward(X)

    assert testing.same(outcome(place, theirs, owner), outcome(place, ours, owner))


@behaviour
def not_a_place(api, owner):
    return api.RemoteModule(5, ScorerModule)


@behaviour
def attributes(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    return (
        [method.__name__ for method in module.generated_methods],
        module.is_scriptable,
        isinstance(module, nn.Module),
        isinstance(module, api._RemoteModule),
        api._REMOTE_MODULE_PICKLED_ATTRIBUTES,
    )


@behaviour
def constructor_arguments(api, owner):
    return api.RemoteModule(owner, ScorerModule, (1,), {"bias": False}).forward(X)


@behaviour
def a_class_that_makes_no_module(api, owner):
    return api.RemoteModule(owner, NoModule).forward()


@behaviour
def a_constructor_that_raises(api, owner):
    return api.RemoteModule(owner, CannotBeMade).forward()


# -- calling


@behaviour
def waiting_and_not(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    return module.forward(X), module.forward(X, times=3), module.forward_async(X, 4).wait(), module(X)


@behaviour
def any_arguments(api, owner):
    module = api.RemoteModule(owner, Anything)
    return module.forward(1, None, "s", [X, {"a": (X, 2)}], point=Point(3), dtype=torch.int8, nested=[[X]])


@behaviour
def no_arguments(api, owner):
    return api.RemoteModule(owner, Anything).forward()


@behaviour
def a_wrong_argument(api, owner):
    return api.RemoteModule(owner, ScorerModule).forward(X, nonsense=1)


@behaviour
def a_forward_that_raises(api, owner):
    return api.RemoteModule(owner, Raises).forward(X)


@behaviour
def an_async_one_that_raises(api, owner):
    return api.RemoteModule(owner, Raises).forward_async(X).wait()


@behaviour
def gradients(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    with dist_autograd.context() as context:
        x = X.clone().requires_grad_()
        dist_autograd.backward(context, [module.forward(x)[0].sum()])
        return dist_autograd.get_gradients(context)[x]


@behaviour
def an_optimizer(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = DistributedOptimizer(torch.optim.SGD, module.remote_parameters(), lr=0.1)
    with dist_autograd.context() as context:
        dist_autograd.backward(context, [module.forward(X)[0].sum()])
        optimizer.step(context)
    return module.forward(X)


# -- the module, and what is refused


@behaviour
def parameters(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    return [
        [rref.to_here() for rref in module.remote_parameters(recurse)] for recurse in (True, False)
    ], module.remote_parameters()[0].owner_name()


@behaviour
def its_reference(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    rref = module.get_module_rref()
    return rref is module.module_rref, rref.owner_name(), type(rref.to_here()), rref.rpc_sync().forward(X)


@behaviour
def training(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    seen = []
    for change in (module.eval, module.train, module.eval):
        change()
        seen.append(rpc.rpc_sync(owner, training_of, (module.get_module_rref(),)))
    return seen


REFUSED = {
    "register_buffer": ("b", X),
    "register_parameter": ("p", None),
    "add_module": ("m", None),
    "apply": (print,),
    "cuda": (),
    "ipu": (),
    "xpu": (),
    "cpu": (),
    "type": (torch.float64,),
    "float": (),
    "double": (),
    "half": (),
    "bfloat16": (),
    "to": ("cpu",),
    "register_backward_hook": (print,),
    "register_forward_pre_hook": (print,),
    "register_forward_hook": (print,),
    "state_dict": (),
    "load_state_dict": ({},),
    "parameters": (),
    "named_parameters": (),
    "buffers": (),
    "named_buffers": (),
    "children": (),
    "named_children": (),
    "modules": (),
    "named_modules": (),
    "requires_grad_": (),
    "zero_grad": (),
    "share_memory": (),
    "extra_repr": (),
}


@pytest.mark.parametrize("scripted", [False, True])
def test_what_is_refused(owner, scripted):
    mine = made(ours, owner, scripted)
    other = theirs.RemoteModule(owner, ScorerModule)
    for name, arguments in REFUSED.items():
        outcomes = [outcome(lambda *_, it=it: getattr(it, name)(*arguments), None, owner) for it in (other, mine)]
        assert outcomes[0] == outcomes[1]
        assert outcomes[0][0] is ValueError


@behaviour
def pickling(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    acts = (pickle.dumps, copy.deepcopy, lambda it: torch.save(it, io.BytesIO()), lambda it: it.__setstate__({}))
    return [outcome(lambda *_: act(module), None, owner) for act in acts]


@behaviour
def sending(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    module.something_new = 1
    if api is theirs:
        module.forward(X)  # it exists now: a call that overtakes the creation may wait for a module that never comes
    return rpc.rpc_sync(owner, told_about, (module,)), rpc.rpc_sync(owner, call_here, (module, X, 3))


@behaviour
def from_a_reference(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    again = api.RemoteModule.init_from_module_rref(owner, module.get_module_rref())
    return again.forward(X), type(again).__name__, again.on, again.module_rref is module.module_rref


@behaviour
def from_a_reference_elsewhere(api, owner):
    rref = api.RemoteModule(owner, ScorerModule).get_module_rref()
    return rpc.rpc_sync(owner, api.RemoteModule.init_from_module_rref, (owner, rref)).forward(X)


# -- with an interface


def made(api, owner, scripted, module=ScorerModule):
    if not scripted:
        return api.RemoteModule(owner, module)
    return api._RemoteModule(owner, module, _module_interface_cls=Scorer)


@behaviour
def an_interface(api, owner):
    module = made(api, owner, scripted=True)
    return module.forward(X, 3), module.forward_async(X, 3).wait(), module.is_scriptable, module.on, module.device


@behaviour
def in_torchscript(api, owner):
    torch.manual_seed(0)
    model = torch.jit.script(CallsIt(torch.jit.script(made(api, owner, scripted=True))))
    return model(X), list(model.state_dict()), [name for name, _ in model.named_parameters()]


@behaviour
def as_an_argument_in_torchscript(api, owner):
    module = torch.jit.script(made(api, owner, scripted=True))
    return call_scripted(module, X)


@behaviour
def gradients_through_an_interface(api, owner):
    module = torch.jit.script(made(api, owner, scripted=True))
    with dist_autograd.context() as context:
        x = X.clone().requires_grad_()
        dist_autograd.backward(context, [module.forward(x, 2)[0].sum()])
        return dist_autograd.get_gradients(context)[x]


@behaviour
def from_a_typed_reference(api, owner):
    rref = made(api, owner, scripted=True).get_module_rref()
    again = torch.jit.script(api.RemoteModule.init_from_module_rref(owner, rref, Scorer))
    return torch.equal(again.forward(X, 2)[0], ScorerModule()(X)[0])


# -- what is different: theirs, ours


@behaviour
def train_that_returns(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    return module.train() is module


@behaviour
def train_false(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    module.train(False)
    return rpc.rpc_sync(owner, training_of, (module.get_module_rref(),))


@behaviour
def an_argument_called_device(api, owner):
    return api.RemoteModule(owner, Anything).forward(device=1)[1]


@behaviour
def a_printed_one(api, owner):
    return "owner/cpu" in repr(api.RemoteModule(owner, ScorerModule))


@behaviour
def a_received_one_is_called(api, owner):
    module = api.RemoteModule(owner, ScorerModule)
    return rpc.rpc_sync(owner, nn.Module.__call__, (module, X))[1]


@behaviour
def a_model_with_it_as_a_part(api, owner):
    model = nn.Sequential(api.RemoteModule(owner, ScorerModule), nn.Linear(3, 3))
    return [name for name, _ in model.named_parameters()], list(model.state_dict()), model.double() is model


@behaviour
def defaults_with_an_interface(api, owner):
    return made(api, owner, scripted=True).forward(X)[1], torch.jit.script(made(api, owner, scripted=True)).forward(X)[
        1
    ]


@behaviour
def parameters_with_an_interface(api, owner):
    return len(made(api, owner, scripted=True).remote_parameters())


@behaviour
def training_with_an_interface(api, owner):
    return type(made(api, owner, scripted=True).eval()).__name__


@behaviour
def sending_with_an_interface(api, owner):
    return rpc.rpc_sync(owner, call_here, (torch.jit.script(made(api, owner, scripted=True)), X, 2))[0][1]


@behaviour
def saving_with_an_interface(api, owner):
    name = {"name": "side by side"} if api is ours else {}
    module = torch.jit.script(api._RemoteModule(owner, ScorerModule, _module_interface_cls=Scorer, **name))
    with withdrawing_then(owner, name):
        return torch.equal(torchremote.load(saved(module)).forward(X, 2)[0], ScorerModule()(X)[0])


@behaviour
def an_interface_without_a_decorator(api, owner):
    return api._RemoteModule(owner, ScorerModule, _module_interface_cls=Undecorated).forward(X, 1)[1]


@behaviour
def an_interface_and_no_module(api, owner):
    return made(api, owner, True, NoModule)


@contextlib.contextmanager
def withdrawing_then(owner, names):
    try:
        yield
    finally:
        for name in names.values():
            rpc.rpc_sync(owner, torchremote.withdraw, (name,))


class Undecorated:
    def forward(self, x: torch.Tensor, times: int = 2) -> tuple[torch.Tensor, int]: ...


def saved(module):
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return file


with warnings.catch_warnings():
    warnings.simplefilter("ignore")

    @torch.jit.script
    def call_scripted(module: RemoteScorer, x: torch.Tensor):
        return module.forward_async(x, 2).wait()[0] + module.forward(x, 1)[0]


_ON_OWNER = "On WorkerInfo(id=1, name=owner):"
_REFUSED = "Method ``{}`` not supported for RemoteModule"
DIFFERENT = {
    "train_that_returns": (False, True),  # torch's sends a copy of the whole module back
    "train_false": (True, False),
    "an_argument_called_device": ((TypeError, f"TypeError: {_ON_OWNER}"), {"device": 1}),
    "a_printed_one": ((ValueError, _REFUSED.format("extra_repr")), True),
    "a_received_one_is_called": ((RuntimeError, f"AttributeError: {_ON_OWNER}"), 2),
    "a_model_with_it_as_a_part": (
        (ValueError, _REFUSED.format("named_modules")),
        (["1.weight", "1.bias"], ["1.weight", "1.bias"], True),
    ),
    "from_a_typed_reference": (
        (
            RuntimeError,
            "'torch.distributed.nn.api.remote_module.RemoteModule' has not been initialized, did you forget to call "
            "'super()'?",
        ),
        True,
    ),
    "defaults_with_an_interface": ((TypeError, "forward() missing 1 required positional argument: 'times'"), (2, 2)),
    "parameters_with_an_interface": ((RuntimeError, f"AttributeError: {_ON_OWNER}"), 3),
    "training_with_an_interface": ((RuntimeError, f"AttributeError: {_ON_OWNER}"), "ScorerStub"),
    "sending_with_an_interface": (
        (
            RuntimeError,
            "Passing a script RemoteModule over RPC is not supported. Please create a RemoteModule in the sender, send "
            "the `module_rref` to the receiver, and create a new instance on the receiver end by passing this "
            "`module_rref`.",
        ),
        2,
    ),
    "saving_with_an_interface": ((Exception, "The following operation failed in the TorchScript interpreter."), True),
    "an_interface_without_a_decorator": (
        (
            ValueError,
            "module_interface_cls <class 'tests.dropin.test_side_by_side.Undecorated'> must be a type object decorated "
            "by @torch.jit.interface",
        ),
        1,
    ),
    "an_interface_and_no_module": (
        (ValueError, f"ValueError: {_ON_OWNER}"),
        (
            TypeError,
            "module_cls: NoModule is no torch.nn.Module; the interface comes first, then the module's class: are the "
            "two swapped?",
        ),
    ),
}


RAISE = {
    "not_a_place",
    "a_class_that_makes_no_module",
    "a_constructor_that_raises",
    "a_wrong_argument",
    "a_forward_that_raises",
    "an_async_one_that_raises",
    "an_interface_and_no_module",
}


@pytest.mark.parametrize("function", BEHAVIOURS, ids=lambda function: function.__name__)
def test_side_by_side(owner, function):
    their, our = outcome(function, theirs, owner), outcome(function, ours, owner)
    raised = isinstance(our, tuple) and isinstance(our[0], type) and issubclass(our[0], Exception)
    assert raised == (function.__name__ in RAISE), our
    if function.__name__ in DIFFERENT:
        assert (their, our) == DIFFERENT[function.__name__]
    else:
        assert testing.same(their, our), f"theirs: {their}\nours: {our}"


def test_without_rpc():
    program = """
import torch.distributed.nn.api.remote_module as theirs, torchremote.remote_module as ours, torch
for api in (theirs, ours):
    for make in (api.RemoteModule, api._RemoteModule):
        try:
            make("owner", torch.nn.Linear)
        except AssertionError as error:
            print(error)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["RemoteModule only works in RPC."] * 4, done.stderr
