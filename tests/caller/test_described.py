"""What help, editors and shells show of a stub."""

import inspect
import pydoc
import rlcompleter
from typing import Optional

import pytest
import torch
from torch import Tensor

import torchremote as tr
from torchremote.caller.stubs.stub import make_stub
from torchremote.jit import compile_interface
from torchremote.jit.read.parse import parse_interface
from torchremote.link.route import route_of

from .. import zoo
from . import postponed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
T = "torch.Tensor"
RREF = "torch.distributed.rpc.api.RRef"
CALLS = "collections.abc.Iterable[tuple[{}] | collections.abc.Mapping[str, typing.Any]]"


class Scorer:
    """Scores rows."""

    def forward(self, x: Tensor, scale: float = 2, names: Optional[dict[str, Tensor]] = None) -> Tensor:
        """Scores each row.

        Args:
            x: rows.
        """

    def best(this, x: Tensor, *, k: int = 5) -> tuple[Tensor, Tensor]: ...

    def reset(self) -> None: ...

    LIMIT = 8
    _own = 3


class ScorerModule(torch.nn.Module):
    def forward(self, x: Tensor, scale: float, names: Optional[dict[str, Tensor]]) -> Tensor:
        return x * scale

    def best(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return x.topk(k)

    def reset(self) -> None:
        pass


@pytest.fixture(scope="module")
def scorer(owner):
    return tr.create(owner, Scorer, ScorerModule)


@pytest.fixture(scope="module")
def from_text(scorer):
    """A stub of the same module, by an interface of which only the text is known."""
    compiled = compile_interface(parse_interface("elsewhere.Unknown", compile_interface(Scorer).interface.declaration))
    return make_stub(compiled, route_of(scorer))


FORWARD = f"(x: {T}, scale: float = 2, names: Optional[dict[str, {T}]] = None)"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("forward", f"{FORWARD} -> {T}"),
        ("forward_async", f"{FORWARD} -> torch.futures.Future[{T}]"),
        ("best", f"(x: {T}, *, k: int = 5) -> tuple[{T}, {T}]"),
        ("best_async", f"(x: {T}, *, k: int = 5) -> torch.futures.Future[tuple[{T}, {T}]]"),
        (
            "best_many",
            f"(calls: {CALLS.format(f'{T}, int')}, *, return_exceptions: bool = False) -> list[tuple[{T}, {T}]]",
        ),
        (
            "best_many_async",
            f"(calls: {CALLS.format(f'{T}, int')}, *, return_exceptions: bool = False)"
            f" -> torch.futures.Future[list[tuple[{T}, {T}]]]",
        ),
        ("best_remote", f"(x: {T}, *, k: int = 5) -> {RREF}[tuple[{T}, {T}]]"),
        ("reset_async", "() -> torch.futures.Future[None]"),
        ("reset_many", f"(calls: {CALLS.format('()')}, *, return_exceptions: bool = False) -> list[None]"),
    ],
)
def test_signatures_are_the_users_own(scorer, name, shown):
    assert str(inspect.signature(getattr(scorer, name))) == shown


def test_annotations_are_the_users_own_objects(scorer):
    signature = inspect.signature(scorer.best)
    assert signature.parameters["x"].annotation is Tensor
    assert signature.parameters["k"].default == 5
    assert inspect.signature(scorer.best_async).return_annotation.__origin__ is torch.futures.Future


def test_a_stub_that_is_called_has_the_signature_of_its_forward(scorer):
    assert str(inspect.signature(scorer)) == f"{FORWARD} -> {T}"
    inspect.signature(type(scorer))  # of the class, whatever it is


def test_annotations_that_are_strings_stay_strings(owner):
    compiled = compile_interface(postponed.Postponed)
    stub = make_stub(compiled, route_of(tr.create(owner, postponed.Postponed, postponed.PostponedModule)))
    assert str(inspect.signature(stub.forward)) == "(x: 'Tensor') -> 'Tensor'"
    assert str(inspect.signature(stub.forward_async)) == "(x: 'Tensor') -> 'torch.futures.Future[Tensor]'"
    assert str(inspect.signature(stub.forward_many)).endswith("-> 'list[Tensor]'")


def test_of_an_interface_that_came_as_text_the_text_is_shown(from_text):
    assert str(inspect.signature(from_text.best)) == "(x: 'Tensor', *, k: 'int' = 5) -> 'Tuple[Tensor, Tensor]'"
    assert str(inspect.signature(from_text.best_async)).endswith("-> 'torch.futures.Future[Tuple[Tensor, Tensor]]'")
    assert from_text.best.__doc__ is None
    assert "Future" in from_text.best_async.__doc__


def test_text_that_equals_a_class_of_this_process_is_shown_as_that():
    compiled = compile_interface(Scorer)
    name, declaration = compiled.interface.qualified_name, compiled.interface.declaration
    assert compile_interface(parse_interface(name, declaration)) is compiled


def test_docstrings_are_the_users_own(scorer):
    assert scorer.forward.__doc__ == "Scores each row.\n\nArgs:\n    x: rows."
    assert scorer.forward_async.__doc__ == (
        "Scores each row.\n\nArgs:\n    x: rows.\n\nReturns a torch.futures.Future of the result, at once."
    )
    assert scorer.best.__doc__ is None
    assert scorer.__doc__ == "Scores rows."
    many = scorer.forward_many_async.__doc__
    assert many.startswith("Makes many calls of forward.\n\nArgs:\n    calls: ")
    assert "A torch.futures.Future of the results" in many
    assert many.endswith("forward: Scores each row.\n\nArgs:\n    x: rows.")


def test_help_shows_both(scorer):
    told = pydoc.render_doc(scorer.forward_async, renderer=pydoc.plaintext)
    signature = " ".join(told.split()).replace("( ", "(")  # since 3.13, Python writes long ones in several lines
    assert f"forward_async(x: {T}, scale: float = 2" in signature
    assert f") -> torch.futures.Future[{T}]" in signature
    assert "    Scores each row.\n" in told
    assert "Scores rows." in pydoc.render_doc(scorer, renderer=pydoc.plaintext)


def said(words):
    """A class of one name and one method, whatever is said about it."""

    class Saying:
        def go(self, x: int) -> int: ...

    Saying.go.__doc__ = words
    return compile_interface(Saying)


def test_classes_with_equal_methods_keep_their_own_words_and_share_the_rest():
    one, other = said("One."), said("Another.")
    assert (one.as_written.methods["go"].doc, other.as_written.methods["go"].doc) == ("One.", "Another.")
    assert one.stub is other.stub
    assert said("One.") is one  # as a cell that runs again


def test_dir_has_the_methods_of_the_interface_first(scorer):
    methods = [f"{name}{ending}" for name in ("best", "forward", "reset") for ending in ENDINGS]
    assert dir(scorer)[: len(methods)] == methods
    assert sorted(set(dir(scorer)))[: len(methods)] == methods  # as shells sort it
    assert dir(scorer).index("reset") < dir(scorer).index("T_destination") < dir(scorer).index("add_module")
    assert len(set(dir(scorer))) == len(dir(scorer))


ENDINGS = ("", "_async", "_many", "_many_async", "_remote")


def test_the_package_shows_public_names_alone():
    assert set(dir(tr)) == set(tr.__all__)
    assert all(hasattr(tr, name) for name in tr.__all__)
    completer, found = rlcompleter.Completer({"tr": tr}), []
    while (name := completer.complete("tr.", len(found))) is not None:
        found.append(name)
    assert {name.rstrip("()") for name in found} == {f"tr.{name}" for name in tr.__all__ if name[0] != "_"}


def test_an_error_that_is_looked_for_in_the_package_is_found():
    with pytest.raises(AttributeError, match="errors are in torchremote.errors: torchremote.errors.RemoteError"):
        tr.RemoteError  # noqa: B018
    with pytest.raises(AttributeError, match="module 'torchremote' has no attribute 'RemoteErrer'"):
        tr.RemoteErrer  # noqa: B018
    assert issubclass(tr.errors.RemoteError, tr.TorchRemoteError)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("besst", "did you mean best? It has best, forward, reset, and for each <m> also <m>_async"),
        ("best_asinc", "did you mean best_async? It has"),
        ("forward_meny", "did you mean forward_many? It has"),
        ("LIMIT", "a stub has methods alone; read it of the interface itself"),
        ("_own", "a stub has no such attribute; it has"),
        ("unlike_any", "a stub has no such attribute; it has best, forward, reset, and"),
    ],
)
def test_a_mistyped_method_is_answered_with_the_nearest_and_the_list(scorer, name, nearest):
    with pytest.raises(AttributeError) as raised:
        getattr(scorer, name)
    assert str(raised.value).startswith(f"Scorer.{name}: ")
    assert nearest in str(raised.value)


def test_a_stub_without_forward_that_is_called_says_what_it_has(owner):
    stub = tr.create(owner, zoo.Counters, Counting)
    with pytest.raises(AttributeError, match=r"Counters\.forward: a stub has no such.* has count,"):
        stub({})


class Counting(torch.nn.Module):
    def count(self, names: dict[str, int], limit: Optional[int]) -> list[tuple[str, int]]:
        return list(names.items())


def test_a_method_that_is_there_is_found_and_others_are_absent(scorer):
    assert not hasattr(scorer, "absent")
    assert getattr(scorer, "absent", None) is None
    assert scorer.training in (True, False)
