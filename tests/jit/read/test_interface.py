from __future__ import annotations

import dataclasses
import functools
import importlib
import subprocess
import sys
import textwrap
import typing
from abc import ABC, abstractmethod
from typing import Dict, List, Optional, Set, Tuple, Union

import pytest
import torch
import typing_extensions
from torch import Tensor

from torchremote.errors import InterfaceError, UnsupportedTypeError
from torchremote.jit import compile_interface, remote_scriptable
from torchremote.jit.read.interface import read_interface

PLAIN = "forward(x: Tensor, scale: float) -> Tensor"


class Plain:
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...


class FromTyping(typing.Protocol):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...


class FromExtensions(typing_extensions.Protocol):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...


class Abstract(ABC):
    @abstractmethod
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        raise NotImplementedError


class AsModule(torch.nn.Module):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        pass


@pytest.mark.parametrize("cls", [Plain, FromTyping, FromExtensions, Abstract, AsModule])
def test_every_kind_of_class(cls):
    assert read_interface(cls).text == PLAIN
    assert remote_scriptable(cls) is cls


def test_a_class_that_is_in_no_file():
    namespace = {}
    exec(
        "from torch import Tensor\nclass Typed:\n  def forward(self, x: Tensor, scale: float = 1.0) -> Tensor: ...",
        namespace,
    )
    assert remote_scriptable(namespace["Typed"]) is namespace["Typed"]
    assert read_interface(namespace["Typed"]).text == PLAIN


def test_a_class_typed_into_a_repl():
    session = """
    import torch, torchremote
    @torchremote.remote_scriptable
    class Typed:
        def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor: ...

    print(torchremote.jit.compile_interface(Typed).interface.text)
    """
    done = subprocess.run(
        [sys.executable, "-i"], input=textwrap.dedent(session), capture_output=True, text=True, timeout=100
    )
    assert PLAIN in done.stdout, done.stderr


def test_a_class_already_under_torch_jit_interface():
    from ...dropin import torch_interface

    before = torch_interface.Scripted.__torch_script_interface__
    assert remote_scriptable(torch_interface.Scripted) is torch_interface.Scripted
    assert torch_interface.Scripted.__torch_script_interface__ == before
    assert read_interface(torch_interface.Scripted).text == "forward(x: Tensor) -> Tensor"


def test_a_class_under_torch_jit_interface_that_is_no_module_can_annotate_a_part():
    from ...dropin import torch_interface

    assert remote_scriptable(torch_interface.Plain) is torch_interface.Plain
    held = torch.jit.script(torch_interface.HoldsPlain(torch.jit.script(torch_interface.Scripts())))
    assert held(torch.ones(2)).tolist() == [2, 2]


def test_methods_of_bases_count_and_are_overridden():
    class Base:
        def reset(self) -> None: ...
        def forward(self, x: int) -> int: ...

    class Derived(Base):
        def forward(self, x: Tensor) -> Tensor: ...

    assert read_interface(Derived).text == "forward(x: Tensor) -> Tensor\nreset() -> None"


def test_an_interface_derived_from_an_interface_has_its_own_name():
    @remote_scriptable
    class Base:
        def forward(self, x: Tensor) -> Tensor: ...

    class Undecorated(Base):
        def extra(self, x: Tensor) -> Tensor: ...

    @remote_scriptable
    class Derived(Base):
        def extra(self, x: Tensor) -> Tensor: ...

    named = [compile_interface(cls).interface.qualified_name.rpartition(".")[2] for cls in (Base, Undecorated, Derived)]
    assert named == ["Base", "Undecorated", "Derived"]
    assert Derived.__torch_script_interface__ != Base.__torch_script_interface__


def test_names_of_an_enclosing_function_are_found_by_the_decorator():
    Alias = Tensor

    @remote_scriptable
    class Local:
        def forward(self, x: Alias, y: Optional[Alias] = None) -> Alias: ...

    assert compile_interface(Local).interface.text == "forward(x: Tensor, y: Optional[Tensor]) -> Tensor"


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Tensor, "Tensor"),
        (None, "None"),
        (list[int], "List[int]"),
        (List[int], "List[int]"),
        (List["Tensor"], "List[Tensor]"),
        ("list['Tensor']", "List[Tensor]"),
        (dict[str, Tensor], "Dict[str, Tensor]"),
        (Dict[bool, float], "Dict[bool, float]"),
        (Tensor | None, "Optional[Tensor]"),
        (None | int, "Optional[int]"),
        (Union[None, str], "Optional[str]"),
        (Optional[Optional[int]], "Optional[int]"),
        (tuple[Tensor, int], "Tuple[Tensor, int]"),
        (Tuple[()], "Tuple[()]"),
        ("Dict[int, Tuple[Optional[List[Tensor]], str]]", "Dict[int, Tuple[Optional[List[Tensor]], str]]"),
    ],
)
def test_spellings(annotation, text):
    class Spelled:
        def forward(self, x) -> None: ...

    Spelled.forward.__annotations__["x"] = annotation
    assert read_interface(Spelled).text == f"forward(x: {text}) -> None"


def refusals():
    class NoMethods: ...

    class Prop:
        @property
        def size(self) -> int: ...

    class Static:
        @staticmethod
        def forward(x: Tensor) -> Tensor: ...

    class Call:
        def __call__(self, x: Tensor) -> Tensor: ...

    class Star:
        def forward(self, *xs: Tensor) -> Tensor: ...

    class Keywords:
        def forward(self, **xs: Tensor) -> Tensor: ...

    class NoType:
        def forward(self, x) -> Tensor: ...

    class NoReturn:
        def forward(self, x: Tensor): ...

    class NoSelf:
        def forward() -> Tensor: ...

    class Coroutine:
        async def forward(self, x: Tensor) -> Tensor: ...

    class Clash:
        def go(self) -> int: ...
        def go_async(self) -> int: ...

    class Batch:
        def go(self) -> int: ...
        def go_many(self) -> int: ...

    class AsyncBatch:
        def go(self) -> int: ...
        def go_many_async(self) -> int: ...

    class Train:
        def train(self, x: Tensor) -> Tensor: ...

    class Reserved:
        def _torchremote_wire(self) -> int: ...

    class Sets:
        def forward(self, x: List[Set[int]]) -> Tensor: ...

    class Bare:
        def forward(self, x: list) -> Tensor: ...

    class Endless:
        def forward(self, x: Tuple[int, ...]) -> Tensor: ...

    class DeviceKey:
        def forward(self, x: Dict[torch.device, int]) -> Tensor: ...

    class Overloaded:
        @typing.overload
        def forward(self, x: int) -> int: ...
        @typing.overload
        def forward(self, x: str) -> str: ...

    class Unknown:
        def forward(self, x: Nowhere) -> Tensor: ...  # noqa: F821

    class BadDefault:
        def forward(self, x: int = "1") -> Tensor: ...

    class Dots:
        def forward(self, x: int = ...) -> Tensor: ...

    class TensorDefault:
        def forward(self, x: Tensor = torch.ones(1)) -> Tensor: ...

    class Huge:
        def forward(self, x: int = 2**63) -> Tensor: ...

    class Mutable:
        def forward(self, x: List[int] = []) -> Tensor: ...  # noqa: B006

    class HugeFloat:
        def forward(self, x: float = 10**400) -> Tensor: ...

    class Saving:
        def save(self, x: Tensor) -> Tensor: ...

    class Training:
        def training(self, x: Tensor) -> Tensor: ...

    class Unicode:
        def forward(self, é: int) -> Tensor: ...

    return [
        (NoMethods, "NoMethods: no methods"),
        (Prop, "Prop.size: a property"),
        (Static, "Static.forward: a staticmethod"),
        (Call, "Call.__call__: .*declare `forward`"),
        (Star, r"Star.forward.xs: .*\*args"),
        (Keywords, r"Keywords.forward.xs: .*\*\*kwargs"),
        (NoType, "NoType.forward.x: the type is missing; possible are Tensor, int"),
        (NoReturn, "NoReturn.forward: the return type is missing"),
        (NoSelf, "NoSelf.forward: the first parameter"),
        (Coroutine, "Coroutine.forward: .*forward_async"),
        (Clash, "Clash.go_async: clashes"),
        (Batch, "Batch.go_many: clashes with the go_many that stubs get for go"),
        (AsyncBatch, "AsyncBatch.go_many_async: clashes"),
        (Train, "Train.train: .*rename"),
        (Reserved, "Reserved._torchremote_wire: .*rename"),
        (Sets, "Sets.forward.x: .*Set.* cannot cross; possible are Tensor"),
        (Bare, r"Bare.forward.x: list cannot cross.*List\[Tensor\]"),
        (Endless, "Endless.forward.x: .*use List"),
        (DeviceKey, "DeviceKey.forward.x: device cannot cross.* a Dict's key is one of str, int"),
        (Overloaded, "Overloaded.forward: TorchScript has no overloads; declare one method with a Union"),
        (Unknown, "Unknown.forward.x: cannot evaluate .*Nowhere"),
        (BadDefault, "BadDefault.forward.x: the default '1' is no int"),
        (Dots, "Dots.forward.x: the default Ellipsis is no int"),
        (TensorDefault, r"TensorDefault.forward.x: a Tensor has no literal; declare Optional\[Tensor\] = None"),
        (Huge, "Huge.forward.x: the default"),
        (Mutable, r"Mutable.forward.x: .*declare Optional\[List\[int\]\] = None"),
        (HugeFloat, "HugeFloat.forward.x: the default"),
        (Saving, "Saving.save: .*rename"),
        (Training, "Training.training: .*rename"),
        (Unicode, "Unicode.forward.é: .*ASCII"),
    ]


@pytest.mark.parametrize(("cls", "message"), refusals(), ids=lambda case: getattr(case, "__name__", ""))
def test_what_cannot_work_is_refused_when_it_is_decorated(cls, message):
    with pytest.raises(InterfaceError, match=message):
        remote_scriptable(cls)


def test_an_unsupported_type_has_a_class_of_its_own():
    with pytest.raises(UnsupportedTypeError):
        read_interface(next(cls for cls, _ in refusals() if cls.__name__ == "Sets"))


def test_a_default_becomes_a_value_of_its_type():
    class Defaults:
        def forward(self, a: float = 1, b: Optional[Tuple[int, float]] = (1, 2)) -> None: ...

    a, b = read_interface(Defaults).methods[0].arguments
    assert (repr(a.default), repr(b.default)) == ("1.0", "(1, 2.0)")


def test_a_method_without_self_is_refused():
    class Without:
        def forward(x: Tensor) -> Tensor: ...

    class WithDefault:
        def forward(x: Tensor, scale: float = 1.0) -> Tensor: ...

    class Text:
        def forward(x: "Tensor") -> Tensor: ...

    class Nothing:
        def forward() -> Tensor: ...

    for cls in (Without, WithDefault, Text, Nothing):
        with pytest.raises(
            InterfaceError, match=r"forward: the first parameter is the module itself.*\(self, .*\.\.\.\)"
        ):
            remote_scriptable(cls)


def test_self_may_have_a_type_and_another_name():
    class Typed:
        def forward(self: "Typed", x: Tensor) -> Tensor: ...

    class Named:
        def forward(this, x: Tensor) -> Tensor: ...

    for cls in (Typed, Named):
        assert read_interface(cls).text == "forward(x: Tensor) -> Tensor"


def written(tmp_path, monkeypatch, name, text):
    """Imports a module that has `text` in it."""
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


ELSEWHERE = """
from __future__ import annotations
import enum, functools, typing
Ids = float
class Row(typing.NamedTuple):
    x: Ids
class Base:
    class Kind(enum.Enum):
        A = 1
    def forward(self, x: Ids, k: Kind) -> Ids: ...
def logged(function):
    @functools.wraps(function)
    def wrapper(*args): ...
    return wrapper
def around():
    Ids = str
    class Inner:
        def forward(self, x: Ids) -> Ids: ...
    class Derived(Base): ...
    return decorate(Inner), decorate(Derived)
"""
DECORATING = """
from __future__ import annotations
import torchremote, elsewhere_of_names as elsewhere
Ids = int
class Kind: ...
@torchremote.remote_scriptable
class Derived(elsewhere.Base): ...
class Row(elsewhere.Row): ...
@torchremote.remote_scriptable
class Wrapped:
    @elsewhere.logged
    def forward(self, x: Ids, row: Row) -> Ids: ...
def inside():
    Ids = str
    return torchremote.remote_scriptable(elsewhere.Base)
"""


def test_annotations_that_are_text_mean_what_they_mean_where_they_were_written(tmp_path, monkeypatch):
    elsewhere = written(tmp_path, monkeypatch, "elsewhere_of_names", ELSEWHERE)
    decorating = written(tmp_path, monkeypatch, "decorating_names", DECORATING)
    elsewhere.decorate = remote_scriptable
    method = "forward(x: float, k: elsewhere_of_names.Base.Kind) -> float"
    inner, derived = elsewhere.around()
    for cls in (decorating.Derived, decorating.inside(), derived):
        assert compile_interface(cls).interface.text.splitlines()[-1] == method
    assert compile_interface(inner).interface.text == "forward(x: str) -> str"
    assert compile_interface(decorating.Wrapped).interface.text.splitlines() == [
        "tuple decorating_names.Row(x: float)",
        "forward(x: int, row: decorating_names.Row) -> int",
    ]


BODY = """
from __future__ import annotations
import enum, typing, torchremote
@torchremote.remote_scriptable
class Encoder:
    from typing import Optional as Maybe
    class Mode(enum.Enum):
        FAST = 1
    class Size(typing.NamedTuple):
        rows: int
    Vector = typing.List[float]
    Id = typing.NewType("Id", int)
    def int(self, x: Vector, id: Id, mode: Maybe[Mode] = Mode.FAST) -> Size: ...
    def bool(self, n: int) -> bool: ...
    def own(self, mode: Encoder.Mode) -> None: ...
"""


def test_all_names_of_the_body_count_while_the_class_is_decorated(tmp_path, monkeypatch):
    module = written(tmp_path, monkeypatch, "names_of_the_body", BODY)
    for _ in range(2):  # the second time, the module still has the class of the first
        compiled = compile_interface(module.Encoder)
        assert compiled.interface.text.splitlines() == [
            "enum names_of_the_body.Encoder.Mode: FAST = 1",
            "tuple names_of_the_body.Encoder.Size(rows: int)",
            "bool(n: int) -> bool",
            "int(x: List[float], id: int, mode: Optional[names_of_the_body.Encoder.Mode]) -> "
            "names_of_the_body.Encoder.Size",
            "own(mode: names_of_the_body.Encoder.Mode) -> None",
        ]
        assert list(compiled.contract.classes.values()) == [module.Encoder.Mode, module.Encoder.Size]
        importlib.reload(module)


def test_a_name_that_is_missing_is_an_error_that_says_where_to_define_it():
    class Missing:
        def forward(self, x: Absent) -> None: ...  # noqa: F821

    with pytest.raises(InterfaceError, match=r"name 'Absent' is not defined; define or import it at the top level"):
        compile_interface(Missing)


@pytest.mark.parametrize(
    "options", [{}, {"slots": True, "frozen": True}, {"order": True, "unsafe_hash": True}], ids=str
)
def test_a_dataclass_may_be_an_interface(options):
    class Encoder:
        size: int = 3

        def __post_init__(self):
            pass

        def forward(self, x: Tensor) -> Tensor: ...

    encoder = dataclasses.dataclass(**options)(Encoder)
    assert read_interface(encoder).text == "forward(x: Tensor) -> Tensor"
    with pytest.raises(
        InterfaceError, match=r"^Called.__call__: special methods cannot be called remotely; declare `for"
    ):
        read_interface(dataclasses.dataclass(type("Called", (), {"__call__": Encoder.forward})))


if sys.version_info >= (3, 12):
    GENERIC = """
    class OfMethod:
        def forward[T: Tensor](self, x: "list[T]") -> None: ...

    class OfClass[T]:
        def forward(self, x: "T") -> None: ...

    class Derived(OfClass[int]):
        pass

    class BodyFirst[T]:
        T = int
        def forward(self, x: "T") -> None: ...

    class MethodFirst:
        T = int
        def forward[T](self, x: "T") -> None: ...
    """

    def test_text_with_a_type_variable_in_brackets_is_refused_as_one():
        names = {"Tensor": Tensor, "__name__": "made"}
        exec(textwrap.dedent(GENERIC), names)
        for name in ("OfMethod", "OfClass", "Derived", "MethodFirst"):
            with pytest.raises(UnsupportedTypeError, match=rf"^{name}.forward.x: T cannot cross.*no generic methods"):
                read_interface(names[name])
        assert read_interface(names["BodyFirst"]).text == "forward(x: int) -> None"


@pytest.mark.parametrize(
    "member",
    [
        functools.lru_cache(lambda self: 1),
        functools.cached_property(lambda self: 1),
        functools.partialmethod(print, 1),
        functools.partial(print, 1),
        functools.singledispatchmethod(lambda self: 1),
    ],
    ids=lambda member: type(member).__name__,
)
def test_a_member_that_is_no_plain_function_is_refused(member):
    def forward(self) -> None: ...

    with pytest.raises(InterfaceError, match=r"^Odd.odd: a \w+ is no plain function and has no signature; declare"):
        remote_scriptable(
            type("Odd", (), {"forward": forward, "odd": member, "__slots__": ("data",), "Alias": List[int]})
        )
