"""What the compiler emits for an interface, without compiling it."""

from functools import partial

from torchremote.jit.lower import (
    SourceNames,
    lower_endpoints,
    lower_enums,
    lower_forked,
    lower_hosting,
    lower_in_turn,
    lower_link,
    lower_stub,
    lower_table,
)
from torchremote.jit.script.emit import emit


def units(interface, native=False, cuda=False):
    source_names = SourceNames(interface)
    in_turn, link = partial(lower_in_turn, native=native), partial(lower_link, native=native, cuda=cuda)
    every = (lower_enums, lower_table, lower_endpoints, link, lower_hosting, lower_forked, in_turn, lower_stub)
    return [emit(lower(interface, source_names)) for lower in every]
