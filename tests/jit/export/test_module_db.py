"""Every module of torch's own list that torch.export captures gives, exported, what it gives itself, bit for bit."""

import copy
import inspect
from typing import Dict, List, Optional, Tuple

import pytest
import torch
from torch import Tensor
from torch.testing._internal.common_modules import module_db

import torchremote as tr
from torchremote.errors import CreationError

from .test_zoo import same

# Their parameters come with their first call; what they compute depends on values; or torch has no sizes for it.
REFUSED = {
    *(f"nn.LazyConv{transposed}{dimensions}d" for transposed in ("", "Transpose") for dimensions in (1, 2, 3)),
    "nn.GaussianNLLLoss",
    "nn.CTCLoss",
}
RAISE = {"nn.FractionalMaxPool2d", "nn.FractionalMaxPool3d"}  # torch's inputs for them do not fit
CASES = [
    pytest.param(info, training, id=f"{info.name}-{'train' if training else 'eval'}")
    for info in module_db
    for training in ([True, False] if info.train_and_eval_differ else [False])
    if info.name not in RAISE
]


def kind_of(value):
    """The type that an interface declares for a value."""
    if isinstance(value, Tensor):
        return Tensor
    if value is None:
        return Optional[Tensor]
    if isinstance(value, tuple):
        return Tuple[tuple(map(kind_of, value))]
    if isinstance(value, list):
        return List[kind_of(value[0])]
    if isinstance(value, dict):
        return Dict[str, kind_of(next(iter(value.values())))]
    return type(value)


def interface_for(arguments, result):
    def forward(self): ...

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=kind_of(value)) for name, value in arguments.items()]
    own = inspect.Parameter("self", kind)
    forward.__signature__ = inspect.Signature([own, *parameters], return_annotation=kind_of(result))
    forward.__annotations__ = {name: kind_of(value) for name, value in [*arguments.items(), ("return", result)]}
    return type("Case", (), {"forward": forward, "__module__": __name__})


@pytest.mark.filterwarnings("ignore")  # modules that torch deprecates
@pytest.mark.parametrize(("info", "training"), CASES)
def test_a_module_of_torch(info, training):
    options = {"device": "cpu", "dtype": torch.float32, "requires_grad": False, "training": training}
    torch.manual_seed(0)
    given = next(iter(info.module_inputs_func(info, **options)))
    module = info.module_cls(*given.constructor_input.args, **given.constructor_input.kwargs).train(training)
    twin = copy.deepcopy(module)
    call = given.forward_input
    arguments = {f"argument_{n}": value for n, value in enumerate(call.args)} | call.kwargs
    torch.manual_seed(1)
    wanted = twin(*call.args, **call.kwargs)
    interface = interface_for(arguments, wanted)
    if info.name in REFUSED:
        with pytest.raises(CreationError, match="torch.export cannot capture it"):
            tr.exported(module, interface, {"forward": arguments})
        return
    exported = tr.exported(module, interface, {"forward": arguments})
    torch.manual_seed(1)
    assert same(exported(**arguments), wanted)
    assert same(list(module.buffers()), list(twin.buffers()))
