"""Scripts a user's module with the methods of an interface.

The checks (checks/) refuse what TorchScript would leave out in silence, do in another way, or end this process with.
Those of what it would do in another way come last, when it has compiled the code: what it refuses itself is worded by
checks/refused.py.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

import torch

from .. import _torch
from ..errors import CreationError, MismatchError
from ..jit import Interface
from ..jit.script.cache import COMPILING, READING_MODULES
from ..link.words import is_ctrl_c, words_of
from ..tracebacks import shown_cause
from .checks.bools_as_numbers import check_bools
from .checks.changes_in_place import check_changes
from .checks.decorators import check_decorators
from .checks.dtypes_as_sizes import check_dtypes
from .checks.floats_for_ints import check_powers, check_refused_powers
from .checks.formats import check_formats
from .checks.graphs import check_graph
from .checks.hooks import check_before, check_hooks
from .checks.identity import check_identity
from .checks.instances import check_instances
from .checks.items_as_tensors import check_items
from .checks.kinds import Kinds, kinds_of
from .checks.lists_as_any import check_lists
from .checks.lists_as_tensors import check_tensors
from .checks.module_names import check_names
from .checks.norms import check_norms
from .checks.numbers_as_bools import check_numbers
from .checks.own_methods import check_class_methods, check_methods
from .checks.prepared import checked_module, prepared
from .checks.refused import words_of_refusal
from .checks.remainders import check_remainders
from .checks.run_twice import Changes, check_twice
from .checks.scripted_code import code_of
from .checks.shared_parts import check_shared
from .checks.unread import unread_in
from .checks.words_and_items import check_letters, check_rsplit, check_words
from .implements import chosen_overloads
from .modules import beside_calls
from .part_modes import check_mode, modes_by_own_train, noting_modes
from .state_names import check_whole, read_names, remember_names

_NUMBERS: Final = re.compile(r"^\d+ | \d+$")  # of parts, and of what is forked
_guarded: set[str] = set()  # the types of modules that were scripted here and have their guards, under COMPILING


def scripted_module(module: object, interface: Interface) -> torch.jit.ScriptModule:
    """Scripts `module` with all methods of `interface`. Returns it unchanged if it is scripted already.

    Raises:
        MismatchError: `module` is no module, or lacks a method.
        ArgumentError: it was exported, and not in the mode that it is in.
        CreationError: TorchScript cannot script it.
    """
    if isinstance(module, torch.jit.ScriptModule):
        if interface.method("forward") is not None:
            check_hooks(module)
        check_mode(module)
        beside_calls(module, partial(_prepare, module))  # it may be hosted already
        return module
    module = prepared(checked_module(module, interface.name))
    check_whole(module)
    for method in interface.methods:
        if not callable(getattr(module, method.name, None)):
            raise MismatchError(
                f"{interface.name}.{method.name}: {type(module).__name__} has no such method; expected\n  {method}"
            )
    wanted = [method.name for method in interface.methods]
    check_before(module, wanted)
    check_methods(module, wanted)
    codes = list(code_of(module, wanted))
    for code in codes:
        check_lists(code)
    kinds = kinds_of(codes)
    overloads = chosen_overloads(module, interface)
    modes = modes_by_own_train(module)
    try:
        with READING_MODULES, COMPILING, noting_modes(module, modes):
            scripted = _torch.script_module(module, wanted, overloads)
    except BaseException as error:  # TorchScript's compiler may raise anything for a user's module
        if is_ctrl_c(error):
            raise
        said = str(error) if isinstance(error, Exception) else words_of(error)
        if "<--- HERE" not in said:
            said = unread_in(codes) or said
        words = f"{type(module).__name__} cannot be scripted: {words_of_refusal(module, said)}"
        try:
            check_refused_powers(kinds, said)
            _check_code(kinds)
        except CreationError as another:
            words += f"\nalso, {another}"
        raise CreationError(words) from shown_cause(error)
    _check_code(kinds)
    check_class_methods(module, scripted)
    check_decorators(module, scripted)  # before calls are put in the place of what they call
    with COMPILING:
        if (kind := _torch.type_name(scripted)) not in _guarded:
            _guard(scripted)
            _guarded.add(kind)
    check_shared(module, scripted)
    remember_names(scripted, read_names(scripted, module))
    return scripted


def _check_code(all_kinds: list[Kinds]) -> None:
    """Raises CreationError for what TorchScript would do in another way than Python."""
    changes = Changes(all_kinds)
    for kinds in all_kinds:
        code = kinds.code
        check_identity(code)
        check_instances(kinds)
        check_dtypes(code)
        check_bools(kinds)
        check_numbers(kinds)
        check_changes(kinds)
        check_remainders(kinds)
        check_powers(kinds)
        check_names(code)
        check_items(code)
        check_formats(kinds)
        check_rsplit(code)
        check_letters(code)
        check_twice(kinds, changes)


def _prepare(scripted: torch.jit.ScriptModule) -> None:
    """Checks and changes a module that somebody else scripted, as `_guard` does."""
    check_whole(scripted)
    with COMPILING:
        _guard(scripted)
        # It may have been loaded. Then nobody finds the functions that it calls, until they are in its graphs.
        graphs = _torch.graphs_in(scripted).values()
        _torch.separate_regions(graphs)
        for graph in graphs:
            _torch.inline(graph)
        _guard(scripted)


def _guard(scripted: torch.jit.ScriptModule) -> None:
    """Refuses what would go wrong in the graphs of a module, and changes some of it instead.

    A type's graphs are changed when a module of it is first hosted: no call of another worker runs them yet.
    """
    graphs = _torch.graphs_in(scripted)
    for name, graph in graphs.items():
        where = _shown(name)
        check_graph(where, graph)
        check_norms(where, graph)
        check_tensors(where, graph)
        check_words(where, graph)
    for graph in graphs.values():
        _torch.guard_divisions(graph)
        _torch.guard_values(graph)
    if any(map(_torch.has_region, graphs.values())):
        _torch.separate_regions(graphs.values())


def _shown(graph: str) -> str:
    """Shows the name that `graphs_in` gives a graph."""
    return _NUMBERS.sub("", graph).removeprefix("__torch__.")
