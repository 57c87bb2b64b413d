"""The names that generated text defines: a class of the user's may have any of them."""

import enum
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from torchremote import native
from torchremote.jit import compile_interface
from torchremote.jit.caller_units import compile_references
from torchremote.jit.lower import (
    SourceNames,
    lower_any,
    lower_common,
    lower_counted,
    lower_counting,
    lower_endpoints,
    lower_enums,
    lower_forked,
    lower_gathering,
    lower_hosting,
    lower_in_turn,
    lower_link,
    lower_references,
    lower_stub,
    lower_table,
    lower_through_rref,
    method_name,
    remote_name,
)
from torchremote.jit.owner_units import counted_module
from torchremote.jit.read.interface import read_interface
from torchremote.jit.read.model import Interface
from torchremote.owner.scripting import scripted_module

from ... import gallery, zoo


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("cls", [zoo.Encoder, zoo.Deep, zoo.Awkward, gallery.Painter], ids=lambda cls: cls.__name__)
def test_source_names_leave_out_all_that_a_unit_defines(cls, native):
    interface = read_interface(cls)
    encoder = read_interface(zoo.Encoder)
    batched = Interface(encoder.qualified_name, tuple(replace(m, batched=0) for m in encoder.methods[:1]))
    names, of_batched = SourceNames(interface), SourceNames(batched)
    lowered = [lower_common(native), lower_any(), lower_counting()]
    lowered += [lower(interface, names) for lower in (lower_enums, lower_table, lower_endpoints, lower_hosting)]
    lowered += [lower_forked(interface, names), lower_in_turn(interface, names, native), lower_stub(interface, names)]
    lowered += [lower_link(interface, names, native, cuda=True), lower_counted(interface, names, native)]
    lowered += [lower_references(interface, interface.methods, names)]
    lowered += [lower_through_rref(interface, "Local", True, names), lower_gathering(batched, of_batched, native)]
    defined = {definition.name for unit in lowered for definition in unit.definitions}
    own = {remote_name(method) for method in interface.methods}
    own |= {method_name(f"{method.name}{ending}") for method in interface.methods for ending in ("", "_async")}
    scopes = [names.scope(), of_batched.scope()]
    assert {"CountedModule", "Flagging", "Local"} <= defined
    assert [name for name in sorted(defined - own) if all(scope.fresh(name) == name for scope in scopes)] == []


class CountedModule(NamedTuple):
    x: Tensor


class Flagging(enum.Enum):
    A = 1


class Classes:
    def forward(self, given: CountedModule, kind: Flagging) -> CountedModule: ...


class Returning(nn.Module):
    def forward(self, given: CountedModule, kind: Flagging) -> CountedModule:
        return given


def test_classes_with_such_names():
    compiled = compile_interface(Classes)
    module = scripted_module(Returning(), compiled.interface)
    counted = counted_module(compiled.contract, module, native.new_counts() if native.available() else "3 ")
    given = CountedModule(torch.ones(2))
    assert counted.forward(given, Flagging.A) == given
    compile_references(compiled)
