"""Wraps the private names of torch that torchremote uses. Only code that TorchScript compiles uses more of them itself.

torch has no public way to compile TorchScript from anything but a source file, to make an object a constant of a graph,
to register a graph under a name, or to ask an RPC agent for its device map. This folder has everything that the
package's Python uses of torch beyond its documentation, with the reason, so that a new torch can be checked in one
place. TorchScript cannot call it: jit/runtime/ calls torch's own operators. supported.py lists the names of both.
"""

from .ahead import assumed_of, compile_ahead
from .autocast import opaque_to_casts, with_casts
from .compile import (
    check_type,
    compile_class,
    compile_function,
    compile_interface,
    compile_module,
    keep_out_of_graphs,
    register_class,
)
from .counting import counted, is_counting, start_counting
from .divisions import guard_divisions
from .export import (
    HigherOrderOperator,
    OpOverload,
    any_size,
    are_hints,
    ask_for_1,
    changes_any,
    changes_first,
    decompose,
    export_program,
    guards_of,
    has_python_kernels,
    operator_overloads,
    operator_schema,
)
from .frontend import (
    ClassDef,
    Def,
    Frontend,
    parsed,
    resolver,
)
from .group import AgentOfMember, GroupAgent, autograd_number, has_let_go, workers_may_join
from .guards import guard_values
from .jit_fork import compile_starter, run_as_fork, use_one_thread_for_forks
from .os_fork import keep_in_forks
from .profiling import call_in_range, call_in_range_until_done, is_profiling
from .regions import casts_that_vary, has_region, places_that_set_gradients, separate_regions
from .rpc import (
    PyRRef,
    ReferenceTypes,
    RemoteDevice,
    WorkerInfo,
    ask_for_a_sign,
    begin_future,
    check_on_unwrap,
    complete,
    creation_of,
    future_value,
    gate_of,
    is_done,
    is_recording_calls,
    keep_until_done,
    mapped_devices,
    own_id,
    own_name,
    rpc_running,
    rpc_sends,
    running_calls,
    send_as,
    tensors_pickled,
    threads_of_rpc,
    was_forked_from_rpc,
    when_done,
    worker_infos,
)
from .scripted import (
    FunctionSchema,
    Node,
    ScriptFunction,
    after_copying,
    as_class,
    as_python_module,
    before_saving,
    constant_holding,
    copy_module,
    find_function,
    has_interface,
    has_method,
    inline,
    inlined,
    inlined_graph,
    interface_called,
    interface_schema,
    keep_module_in_forks,
    load_scripted,
    method_names,
    modules_in_attributes,
    object_of,
    operator,
    operators_of,
    parse_schema,
    place_of,
    qualified_name,
    register_bound,
    replace_child,
    schema_of,
    scripted_method,
    set_attribute,
    set_child,
    set_qualified_name,
    tensor_attributes,
    type_name,
    waits,
)
from .users_modules import (
    calls_of_python,
    converts_states_by,
    custom_objects,
    functions_in,
    graphs_in,
    is_exported,
    is_frozen,
    is_ignored,
    is_traced_only,
    not_compiled,
    overloads_of,
    script_module,
    train_follows,
)
from .values import (
    as_plain_tensors,
    class_has_dispatch,
    has_dispatch,
    has_modes,
    has_type,
    in_dual_level,
    in_fake_mode,
    indices_of,
    is_autocasting,
    is_functional,
    is_of_transform,
    is_transforming,
    is_view,
    map_leaves,
    references_in_cpp,
    set_coalesced,
    stands_for_another,
    stored_parts,
    without_autocast,
    without_inference,
)
