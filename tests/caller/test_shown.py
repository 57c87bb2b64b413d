"""What a stub shows of itself."""

import torch

import torchremote as tr
from torchremote.caller.stubs import shown

from .. import zoo
from ..waiting import holding_the_gil


def test_a_line_says_what_and_where_and_whether_it_answers(owner):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder, name="shown")
    assert repr(stub) == "EncoderStub(Encoder 'shown' on owner/cpu, answers)"
    tr.withdraw("shown", owner)
    assert repr(stub) == "EncoderStub(Encoder 'shown' on owner/cpu, withdrawn)"


def test_a_model_shows_its_stubs(owner):
    model = torch.nn.Sequential(tr.create(owner, zoo.Encoder, zoo.LinearEncoder), torch.nn.ReLU())
    assert "(0): EncoderStub(Encoder on owner/cpu, answers)" in repr(model)


def test_an_owner_that_does_not_answer_is_asked_once(owner, monkeypatch):
    monkeypatch.setattr(shown, "_PATIENCE", 0.2)
    monkeypatch.setattr(shown, "_silent", {})
    stubs = [tr.create(owner, zoo.Encoder, zoo.LinearEncoder) for _ in range(5)]
    asked, ask = [], shown.ask
    monkeypatch.setattr(
        shown, "ask", lambda worker, *rest, **options: asked.append(worker) or ask(worker, *rest, **options)
    )
    holding = holding_the_gil(owner, 1.5)
    lines = [repr(stub) for stub in stubs]
    assert lines == ["EncoderStub(Encoder on owner/cpu, does not answer)"] * 5
    assert asked == [owner]
    holding.wait()
    shown._silent.clear()
    assert repr(stubs[0]).endswith("answers)")


def test_a_table_for_notebooks(owner):
    table = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)._repr_html_()
    for said in ("Encoder", "owner", "cpu", "answers", "forward(x: Tensor, ", "topk(", "&gt; Tensor"):
        assert said in table


def test_without_rpc(owner, monkeypatch):
    stub = tr.create(owner, zoo.Encoder, zoo.LinearEncoder)
    monkeypatch.setattr(shown._torch, "rpc_running", lambda: False)
    assert repr(stub) == "EncoderStub(Encoder on owner/cpu, RPC is not running)"
