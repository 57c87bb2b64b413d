"""Says what to write instead of the methods of torch.nn.Module that a stub refuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NoReturn

import torch

from ...errors import StubError
from .stub import route_and_interface

PARAMETERS: Final = (
    "torchremote.at_owner(stub).parameters() returns references to them, for DistributedOptimizer, and "
    "torchremote.at_owner(stub).state_dict() copies of their values"
)
STATE: Final = "torchremote.at_owner(stub).state_dict() returns copies of their values"
WHERE_IT_IS_MADE: Final = (
    "do it on the owner, where the module is made: in a function that you give to create as module_cls"
)
MOVE: Final = 'torchremote.at_owner(stub).to("cuda:0") moves the remote module, and stubs follow'
PARTS: Final = "declare a method in the interface that returns what you need of its parts, and call that"
HOOKS: Final = "put the stub into a module of your own, and hook that one"
REMEDIES: Final = {
    **dict.fromkeys(("to", "cpu", "cuda", "xpu", "ipu", "mtia"), MOVE),
    **dict.fromkeys("half float double bfloat16 type share_memory to_empty compile".split(), WHERE_IT_IS_MADE),
    **dict.fromkeys(
        "add_module register_module register_parameter register_buffer set_submodule define".split(),
        WHERE_IT_IS_MADE,
    ),
    # Not set_extra_state: a model that loads a state would ask for that of each part whose class has one of its own.
    **dict.fromkeys(("get_parameter", "get_buffer", "get_extra_state"), STATE),
    "get_submodule": PARTS,
    "get_debug_state": WHERE_IT_IS_MADE,
    **dict.fromkeys(
        "register_forward_hook register_forward_pre_hook register_backward_hook register_full_backward_hook "
        "register_full_backward_pre_hook register_state_dict_pre_hook register_state_dict_post_hook "
        "register_load_state_dict_pre_hook register_load_state_dict_post_hook "
        "_register_state_dict_hook _register_load_state_dict_pre_hook".split(),
        HOOKS,
    ),
}
"""The line to write instead of a method that a stub refuses."""
AT_OWNER: Final = {
    **REMEDIES,
    "named_parameters": PARAMETERS,
    **dict.fromkeys(("buffers", "named_buffers"), STATE),
    "set_extra_state": "torchremote.at_owner(stub).load_state_dict(state) copies values into the module",
    "apply": WHERE_IT_IS_MADE,
    **dict.fromkeys(("modules", "named_modules", "children", "named_children"), PARTS),
    **dict.fromkeys(("forward", "training"), "the stub itself has it"),
}
"""The line to write instead of a name of torch.nn.Module that `at_owner(stub)` does not have."""
WITHOUT_STATE: Final = frozenset({WHERE_IT_IS_MADE, HOOKS, PARTS})
"""Those of them that have nothing to do with where the module's state is."""
COPIES: Final = "the values are copies, without gradients; leave keep_vars out"
NEW_DICT: Final = "the dict is new; write destination.update(torchremote.at_owner(stub).state_dict(prefix=prefix))"
COPIED: Final = "the values are always copied; leave assign out"


def refuse(stub: Any, method: str, remedy: str) -> NoReturn:
    """Refuses a method of a stub, with what to write instead."""
    route, compiled = route_and_interface(stub, method)
    where = f"{compiled.interface.name} on {route.worker}"
    raise StubError(f"{where}: {method}: the module is on another worker, and this is a stub of it; {remedy}")


def asks_for_a_dtype(given: Iterable[object]) -> bool:
    """Says whether what a user gives to `to` asks for a dtype or memory format. torch takes the dtype of a tensor."""
    return any(isinstance(one, (torch.dtype, torch.memory_format, torch.Tensor)) for one in given)
