"""Lists the supported versions of Python and torch, and the private names of torch that are used.

The package imports this file first, so an unsupported torch leads to an error of one line.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Final

import torch
import torch.distributed.rpc as rpc

from ._version import __version__

# The oldest and the newest versions with which `make compat` passed.
PYTHON: Final = (3, 11), (3, 13)
TORCH: Final = (2, 11), (2, 15)

PRIVATE: Final = {
    "torch._sources": "SourceContext",
    "torch._C._jit_tree_views": "ClassDef Def Ident Stmt",
    "torch.jit.frontend": "build_def get_jit_def",
    "torch.jit._recursive": "ScriptMethodStub create_script_module create_script_module_impl infer_methods_to_compile "
    "make_stub_from_method make_stubs_from_exported_methods ConcreteTypeStore check_module_initialized "
    "AttributeTypeIsSupportedChecker wrap_cpp_module",
    "torch.jit._recursive.concrete_type_store": "methods_compiled",
    "torch.jit._serialization": "validate_map_location",
    "torch.jit.RecursiveScriptModule": "_finalize_scriptmodule save save_to_buffer __copy__",
    "torch.jit._state": "_python_cu _add_script_class _script_classes _jit_caching_layer",
    "torch.jit._state._python_cu": "create_function find_function get_interface",
    "torch._jit_internal": "_qualified_name createResolutionCallbackFromEnv createResolutionCallbackFromClosure "
    "_get_overloaded_methods",
    "torch._C": "_parse_source_def _jit_script_interface_compile _jit_script_class_compile _jit_script_compile "
    "_freeze_module _resolve_type_from_object _disabled_torch_dispatch_impl _functorch InterfaceType ScriptModule Node "
    "FunctionSchema DisableTorchFunctionSubclass _jit_try_infer_type _collect_all _is_any_autocast_enabled "
    "_dispatch_has_kernel_for_dispatch_key "
    "_len_torch_dispatch_stack _get_dispatch_mode "
    "_TorchDispatchModeKey _replace_overloaded_method_decl parse_schema LockingLogger _logging_set_logger "
    "_jit_get_operation _jit_pass_inline ConcreteModuleType ScriptList IntType BoolType FloatType NumberType "
    "CompilationUnit import_ir_module import_ir_module_from_buffer",
    "torch._C.ScriptModule": "_get_method _has_method _method_names _type",
    "torch._ops": "OpOverload HigherOrderOperator",
    "torch._subclasses.fake_tensor": "UnsupportedOperatorException",
    "torch.export._trace": "make_constraints",
    "torch.export.exported_program": "_split_decomp_table_to_cia_and_python_decomp "
    "_override_composite_implicit_decomp _convert_guards_to_code",
    "torch.fx.experimental._config": "backed_size_oblivious",
    "torch.fx.experimental.proxy_tensor": "make_fx",
    "torch.fx.experimental.symbolic_shapes": "int_oo",
    "torch.fx.experimental.symbolic_shapes.ShapeEnv": "create_symbol constrain_symbol_range bound_sympy",
    "torch.library": "_impls",
    "torch._library.custom_ops": "OPDEFS",
    "torch._C.Future": "_set_unwrap_func",
    "torch._C._autograd": "_profiler_enabled",
    "torch._C._distributed_autograd": "_current_context _get_max_id",
    "torch.autograd.profiler.record_function": "_call_end_callbacks_on_future",
    "torch._C._functorch": "peek_interpreter_stack is_functorch_wrapped_tensor",
    "torch": "_check _is_functional_tensor _make_per_channel_quantized_tensor",
    "torch.Tensor": "_indices _values _nnz _coalesced_ _is_view _is_zerotensor",
    "torch.autograd.forward_ad": "_current_level",
    "torch.ops.aten": "_has_same_storage_numel _sparse_coo_tensor_unsafe _neg_view",
    "torch.utils._pytree": "tree_map",
    "torch.distributed._remote_device": "worker_name rank device",
    "torch.distributed.rpc.api": "_is_current_rpc_agent_set _get_current_rpc_agent _reset_current_rpc_agent "
    "_internal_rpc_pickler",
    "torch.distributed.rpc.api._internal_rpc_pickler": "_class_reducer_dict",
    "torch.distributed.rpc": "PyRRef WorkerInfo TensorPipeAgent",
    "torch.distributed.rpc.PyRRef": "_get_future",
    "torch.distributed.rpc.TensorPipeAgent": "_get_device_map get_worker_infos is_static_group",
}

GROUPS: Final = {
    "torch.distributed": "HashStore",
    "torch.distributed.autograd": "_init",
    "torch.distributed.rpc": "_set_profiler_node_id TensorPipeAgent _rref_context_get_debug_info "
    "_delete_all_user_and_unforked_owner_rrefs",
    "torch.distributed.rpc.api": "_init_rpc_states _finalize_shutdown _is_current_rpc_agent_set _get_current_rpc_agent",
    "torch.distributed.rpc.backend_registry": "_validate_device_maps _create_reverse_mapping _create_device_list",
    "torch.distributed.rpc.TensorPipeAgent": "_update_group_membership get_metrics",
}
"""The private names that groups need whose members come and go: `join` checks them, and the import does not."""


AHEAD: Final = {
    "torch._inductor": "aoti_compile_and_package",
    "torch.fx.experimental.symbolic_shapes": "ShapeEnv",
    "torch.utils._sympy.printers": "PythonPrinter",
}
"""The private names with which modules are compiled ahead of time: `compiled` checks them, and the import does not."""


def check_import() -> None:
    """Checks the versions of Python and torch. Warns if they are newer than those that were tested.

    Raises:
        ImportError: Python or torch is too old, or torch lacks RPC or a private name.
    """
    oldest, newest = TORCH
    needed = f"Python {dotted(PYTHON[0])} to {dotted(PYTHON[1])} and torch {dotted(oldest)} to {dotted(newest)}"
    here = f"torchremote {__version__} needs {needed}"
    if sys.version_info < PYTHON[0]:
        raise ImportError(f"{here}: this is Python {dotted(sys.version_info[:2])}")
    if not rpc.is_available():
        raise ImportError(f"{here}, built with RPC: this is torch {torch.__version__} without; on Linux, any has it")
    version = torch_version()
    if version < oldest:
        raise ImportError(f"{here}: this is torch {torch.__version__}; pip install 'torch>={dotted(oldest)}'")
    if version > newest:
        missing = list(missing_names())
        if missing:
            raise ImportError(
                f"{here}: this is torch {torch.__version__}, which has no {', '.join(missing)}; "
                f"pip install 'torch=={dotted(newest)}.*'"
            )
        warnings.warn(f"{here}: this is torch {torch.__version__}, which was not tested", stacklevel=2)
    if sys.version_info[:2] > PYTHON[1]:
        warnings.warn(f"{here}: this is Python {dotted(sys.version_info[:2])}, which was not tested", stacklevel=2)


def check_has(what: str, wanted: Mapping[str, str], instead: str) -> None:
    """Raises ImportError if this torch lacks one of the names that `what` needs. `instead`: what to use then."""
    missing = list(missing_names(wanted))
    if missing:
        raise ImportError(
            f"{what}: this is torch {torch.__version__}, which has no {', '.join(missing)}; {instead}, or "
            f"pip install 'torch=={dotted(TORCH[1])}.*'"
        )


def missing_names(wanted: Mapping[str, str] = PRIVATE) -> Iterator[str]:
    """Yields the names in `wanted` that this torch does not have."""
    for holder, names in wanted.items():
        try:
            found = _find(holder)
        except (ImportError, AttributeError):
            yield holder
        else:
            yield from (f"{holder}.{name}" for name in names.split() if not hasattr(found, name))


def torch_version() -> tuple[int, ...]:
    """Returns torch's version, as in (2, 13)."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2])


def _find(path: str) -> object:
    """Returns the object at a dotted path of torch, and imports modules on the way."""
    found: object = torch
    reached = "torch"
    for name in path.split(".")[1:]:
        reached = f"{reached}.{name}"
        if not hasattr(found, name):
            importlib.import_module(reached)
        found = getattr(found, name)
    return found


def dotted(version: tuple[int, ...]) -> str:
    """Writes a version as text: (2, 13) as "2.13"."""
    return ".".join(map(str, version))


check_import()
