"""The classes behind named types: found, or made; and never taken for others of their name."""

import enum
import sys
import types
from collections.abc import Sequence
from typing import Annotated, Any, List, NamedTuple, Optional, Tuple, Union

import pytest
import torch
from torch import Tensor

from torchremote import _torch
from torchremote.errors import InterfaceError, UnsupportedTypeError
from torchremote.jit import compile_contract, compile_interface
from torchremote.jit.read.parse import parse_interface
from torchremote.jit.script.classes import find_classes

from ... import gallery, zoo

NOWHERE = """\
enum nowhere.Color: RED = 1, GREEN = 2
tuple nowhere.Pair(a: Tensor, c: List[nowhere.Color])
forward(x: List[nowhere.Pair], c: nowhere.Color) -> nowhere.Pair"""


def test_a_class_is_found_where_its_path_says():
    interface = compile_interface(gallery.Painter).interface
    found = find_classes(interface, "scope")
    assert {named.name: cls for named, cls in found.items()}["tests.zoo.Color"] is zoo.Color


def test_a_class_that_is_nowhere_has_a_twin():
    compiled = compile_interface(parse_interface("__torch__.Nowhere", NOWHERE))
    color, pair = compiled.contract.classes.values()
    assert [member.name for member in color] == ["RED", "GREEN"]
    assert pair._fields == ("a", "c")
    assert _torch.qualified_name(pair).startswith(compiled.contract.scope)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"RED": 1, "BLUE": 2}, "here:  enum elsewhere.Color: RED = 1, BLUE = 2"),
        ({"GREEN": 2, "RED": 1}, "here:  enum elsewhere.Color: GREEN = 2, RED = 1"),
        ({"RED": 1, "GREEN": "2"}, "here: .*not all int"),
    ],
)
def test_another_class_of_that_name_is_refused(monkeypatch, members, message):
    module = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    module.Color = enum.Enum("Color", members, module="elsewhere")
    text = "enum elsewhere.Color: RED = 1, GREEN = 2\nforward(c: elsewhere.Color) -> int"
    with pytest.raises(InterfaceError, match=f"(?s)elsewhere.Color is not the same on both workers.*{message}"):
        compile_interface(parse_interface("Elsewhere", text))
    module.Color = "a string"
    with pytest.raises(InterfaceError, match="here:  a str"):
        compile_interface(parse_interface("Elsewhere", text))


class Strings(NamedTuple):
    """Annotated as torch by itself cannot read."""

    x: "List[int | None]"
    y: Sequence[Annotated[int, "of something"]]
    z: "Optional[Strings2]" = None


class Strings2(NamedTuple):
    a: "Tensor"


def test_a_named_tuple_may_be_annotated_as_torch_cannot_read():
    class Reading:
        def forward(self, x: Strings) -> List[Strings]: ...

    text = compile_interface(Reading).interface.text
    assert "Strings(x: List[Optional[int]], y: List[int], z: Optional[tests.jit.script.test_classes.Strings2])" in text


def test_an_enum_without_a_source_file_compiles(monkeypatch):
    module = types.ModuleType("typed")
    monkeypatch.setitem(sys.modules, "typed", module)
    exec("import enum\nclass Color(enum.Enum):\n  RED = 'r'", vars(module))

    class Typed:
        def forward(self, c: module.Color = module.Color.RED) -> Tensor: ...

    assert compile_interface(Typed).interface.text.startswith('enum typed.Color: RED = "r"')


def test_a_union_that_torchscript_gets_wrong_is_refused():
    class Wrong:
        def forward(self, x: int, y: List[Union[Tuple[Tensor], Tuple[float, Any]]]) -> Tensor: ...

    with pytest.raises(UnsupportedTypeError, match=r"Wrong.forward.y: TorchScript cannot have .*declare Any"):
        compile_interface(Wrong)


@pytest.mark.parametrize("name", "Tensor List Stub Link Local sendable pack_Color Color torch x".split())
def test_a_class_may_be_called(monkeypatch, name):
    module = types.ModuleType("odd")
    monkeypatch.setitem(sys.modules, "odd", module)
    setattr(module, name, enum.Enum(name, {"A": 1}, module="odd"))
    pair = NamedTuple("Other", [("c", getattr(module, name))])
    pair.__module__, module.Other = "odd", pair

    class Odd:
        def forward(self, x: getattr(module, name), Color: List[pair]) -> Tensor: ...

    assert compile_interface(Odd).interface.text.startswith(f"enum odd.{name}: A = 1\ntuple odd.Other(c: odd.{name})")


def test_classes_that_are_defined_anew_are_other_classes(monkeypatch):
    """As in a REPL, or a module that is loaded again."""
    module = types.ModuleType("again")
    monkeypatch.setitem(sys.modules, "again", module)
    source = (
        "import enum\nfrom typing import NamedTuple\n"
        "class Color(enum.Enum):\n  RED = 1\nclass Pair(NamedTuple):\n  c: Color\n  n: int\n"
    )
    compiled = []
    for text in (source, source, source.replace("n: int", "m: str")):
        exec(text, vars(module))

        class Again:
            def forward(self, x: module.Pair) -> module.Color: ...

        compiled.append(compile_interface(Again))
        assert list(compiled[-1].contract.classes.values()) == [module.Color, module.Pair]
        taken = _torch.interface_schema(compiled[-1].contract.defined["ModuleInterface"], "forward").arguments[1].type
        assert str(taken) == _torch.qualified_name(module.Pair)
    assert compiled[0].digest == compiled[1].digest != compiled[2].digest
    assert [one.contract.table_is_live for one in compiled] == [True, False, True]


def test_every_dtype_has_a_code_and_a_way_back():
    from torchremote.link.scalars import dtype_codes, dtypes_by_code

    assert {torch.float32, torch.bool, torch.complex64, torch.float8_e5m2} <= set(dtype_codes())
    assert all(dtypes_by_code()[code] is dtype for dtype, code in dtype_codes().items())


def test_modules_are_imported_without_the_compile_lock(tmp_path, monkeypatch):
    """Whoever imports a module holds its lock, and may be waiting to compile an interface that is in it."""
    (tmp_path / "lately_imported.py").write_text(
        "import enum, threading\n"
        "from torchremote.jit.script.cache import COMPILING\n"
        "free = []\n"
        "def try_it():\n"
        "    free.append(COMPILING.acquire(timeout=5))\n"
        "    COMPILING.release() if free[0] else None\n"
        "thread = threading.Thread(target=try_it)\n"
        "thread.start(); thread.join()\n"
        "class Late(enum.Enum):\n"
        "    ONE = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = "enum lately_imported.Late: ONE = 1\nforward(x: lately_imported.Late) -> int"
    compile_contract(parse_interface("__torch__.Lately", text))
    assert sys.modules["lately_imported"].free == [True]
