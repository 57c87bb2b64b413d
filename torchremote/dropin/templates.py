"""Has what torch.distributed.nn.jit.templates has: a function that returns the source of a module.

For programs that fill torch's template themselves. All but the interface is read from the interface, so other values
that are filled in are ignored.
"""

from __future__ import annotations


def get_remote_module_template(enable_moving_cpu_tensors_to_cuda: bool) -> str:
    """Returns the source text of a module, to be formatted and executed.

    Format it with `assign_module_interface_cls`: a statement that binds `module_interface_cls` to a class or to None.
    Whoever executes the text gets what the functions of `torchremote.jit.instantiator` return.

    Args:
        enable_moving_cpu_tensors_to_cuda: whether tensors move to a module on an accelerator, and back.

    >>> module = {}
    >>> exec(get_remote_module_template(True).format(assign_module_interface_cls="module_interface_cls = None"), module)
    >>> [method.__name__ for method in module["_generated_methods"]]
    ['forward_async', 'forward']
    """
    return f"""\
from torchremote.jit import instantiator

{{assign_module_interface_cls}}

if module_interface_cls is None:
    _functions = instantiator.instantiate_non_scriptable_remote_module_template()
else:
    _functions = instantiator.instantiate_scriptable_remote_module_template(
        module_interface_cls, {bool(enable_moving_cpu_tensors_to_cuda)}
    )
globals().update((name, value) for name, value in vars(_functions).items() if not name.startswith("__"))
"""
