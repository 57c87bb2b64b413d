"""`serve`, `call` and `withdraw`, in groups of their own."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy
import pytest
import torch

import torchremote
from torchremote.tools import cli

from .. import zoo
from ..forks import Fork
from ..groups.test_joining import send_in_wait_of
from ..waiting import stop, until
from .commands import programs, run_commands

pytestmark = pytest.mark.timeout(300)

ENCODER = ("tests.zoo:LinearEncoder", "--interface", "tests.zoo:Encoder", "--args", "8", "3")


@pytest.fixture(scope="module")
def start():
    with programs() as start:
        yield start


@pytest.fixture(scope="module")
def address(start, tmp_path_factory):
    hub = start(tmp_path_factory.mktemp("hub") / "output", "hub", "--address", "127.0.0.1:0")
    return hub.said(r"listens on (\S+)")[1]


def served(start, address, output, *arguments):
    """A `serve` that serves."""
    program = start(output, "serve", *map(str, arguments), "--address", address)
    program.said(r"^(serving |\{.event.: .serving)")
    return program


@pytest.fixture(scope="module")
def ps(start, address, tmp_path_factory):
    output = tmp_path_factory.mktemp("ps") / "output"
    return served(start, address, output, *ENCODER, "--name", "encoder", "--worker", "ps")


def test_call_reads_arguments_by_the_signature(ps, address, tmp_path):
    x = torch.rand(2, 8)
    torch.save(x, tmp_path / "x.pt")
    numpy.save(tmp_path / "x.npy", x.numpy())
    call = ("call", "--address", address)
    results = run_commands(
        tmp_path,
        (*call, "ps/encoder", tmp_path / "x.pt", "--output", tmp_path / "y.pt"),
        (*call, "ps/encoder.topk", "--k", "3", tmp_path / "x.npy", "--json"),
        (*call, "ps/encoder.forward", json.dumps(x.tolist()), "-0.5", "--output", tmp_path / "y.npy"),
        (*call, "ps/encoder.topk", "--x", tmp_path / "x.pt"),
        (*call, "ps/encoder.topk", tmp_path / "x.pt", "--output", tmp_path / "y.json"),
        (*call, "ps/encoder.reset"),
    )
    assert [status for status, _, _ in results] == [0] * 6, results
    y = zoo.LinearEncoder.output(3, x)
    assert torch.equal(torch.load(tmp_path / "y.pt"), y)
    values, indices = x.topk(3)
    assert json.loads(results[1][1]) == [values.tolist(), indices.tolist()]
    assert numpy.allclose(numpy.load(tmp_path / "y.npy"), -0.5 * y.detach())
    assert results[3][1] == "\n".join(map(str, x.topk(2))) + "\n"
    assert json.loads((tmp_path / "y.json").read_text()) == [part.tolist() for part in x.topk(2)]
    assert results[5][1] == "None\n"


REFUSED = [
    (["ps"], 2, "'ps': write worker/name or worker/name.method, such as ps/encoder.topk"),
    (["nobody/encoder"], 3, "there is no worker 'nobody' in the group at 127.0.0.1:"),
    (["nobody/encoder"], 3, "; it has ps; `torchremote ls` lists them"),
    (["nobody/encoder"], 3, "start it with `torchremote serve ... --worker nobody`, or name the address of another"),
    (["ps/nothing"], 1, "call on ps: 'nothing': not served by the worker 'ps'; served are: encoder"),
    (["ps/encoder.no"], 2, "ps/encoder.no: Encoder has no no; it has fail, forward, reset, topk"),
    (["ps/encoder.topk", "absent.pt"], 2, "Encoder.topk.x: absent.pt: No such file or directory"),
    (
        ["ps/encoder.topk", "[[1.0, 2.0]]", "--k", "two"],
        2,
        "Encoder.topk.k: 'two' is no int: it is neither JSON, such as 3",
    ),
    (["ps/encoder.topk", "--k", "2"], 2, "error: no value for x"),
    (
        ["ps/encoder.topk", "1", "2", "3"],
        2,
        "error: 3 values for 1 argument; those behind the * need their names: --k",
    ),
    (["ps/encoder.topk", "[[1.0]]", "--x", "2"], 2, "error: x: given twice, as value 1 and as --x"),
    (["ps/encoder.topk", "[1.0, 2.0]", "--output", "y.txt"], 2, "--output y.txt: write .pt or .json"),
    (["ps/encoder.topk", '{"a": 1}'], 2, "Encoder.topk.x: no tensor: "),
    (["ps/encoder.topk", "[" * 5000], 2, "is neither JSON, such as 3"),
    (["ps/encoder.topk", "[[1.0, 2.0]]", "--k", "0.5"], 2, "Encoder.topk.k: 0.5 is no int"),
    (["ps/encoder.fail", "[[1.0]]"], 1, "Encoder.fail on ps: "),
]


def test_what_call_refuses(ps, address, tmp_path):
    commands = [("call", "--address", address, *arguments) for arguments, _, _ in REFUSED]
    for (arguments, status, message), (got, _, said) in zip(REFUSED, run_commands(tmp_path, *commands), strict=True):
        assert got == status, (arguments, said)
        assert message in said, arguments


def test_a_result_that_cannot_be_written_is_printed(ps, address, tmp_path):
    call = ("call", "--address", address, "ps/encoder.topk", "[[1.0, 2.0]]", "--output", tmp_path / "y.npy")
    ((status, out, said),) = run_commands(tmp_path, call)  # two tensors
    assert status == 1
    assert "write .pt or .json" in said
    assert out == "tensor([[2., 1.]])\ntensor([[1, 0]])\n"


def test_a_stopped_worker_keeps_call_and_withdraw_for_their_timeout(start, address, tmp_path):
    stopped = served(start, address, tmp_path / "out", *ENCODER, "--name", "encoder", "--worker", "halted")
    stop(stopped.pid)
    began = time.monotonic()
    at, brief = ("--address", address, "--timeout", "1"), ("--patience", "0.5")
    commands = [("call", *at, *said, "halted/encoder", "[[1.0]]") for said in ((), brief)]
    commands += [("withdraw", *at, *said, "halted/encoder") for said in ((), brief)]
    results = run_commands(tmp_path, *commands)
    stopped.kill()
    assert [status for status, _, _ in results] == [3] * 4, results
    assert "withdraw on halted: no answer within 0.5 s" in results[-1][2]
    assert time.monotonic() - began < 30  # RPC's default is 60


def test_a_call_that_times_out_says_what_gives_it_more_time(start, address, tmp_path):
    slow = ("tests.zoo:SlowLoop", "--interface", "tests.zoo:Sleeper", "--name", "slow", "--worker", "slow")
    owner = served(start, address, tmp_path / "out", *slow)
    call = ("call", "--address", address, "--patience", "2", "slow/slow", "[1.0]", "1000000000000")
    ((status, _, said),) = run_commands(tmp_path, call)
    owner.kill()
    assert status == 3, said
    assert "the owner's work goes on. Give it more time with --patience" in said


def test_help_of_a_method_lists_its_arguments(ps, address, tmp_path):
    ((status, out, _),) = run_commands(tmp_path, ("call", "--address", address, "ps/encoder.topk", "--help"))
    assert status == 0
    assert "topk(x: Tensor, *, k: int = 2) -> Tuple[Tensor, Tensor]" in out
    assert "--k VALUE" in out


def test_ls_lists_workers_and_modules(start, ps, address, tmp_path):
    stopped = served(start, address, tmp_path / "stopped", *ENCODER, "--name", "encoder", "--worker", "stopped")
    ls = ("ls", "--address", address)
    (table, listed) = run_commands(tmp_path, ls, (*ls, "--json"))
    assert table[0] == listed[0] == 0, (table, listed)
    workers = {worker["worker"]: worker for worker in json.loads(listed[1])}
    assert workers.keys() == {"ps", "stopped"}
    about, (module,) = workers["ps"], workers["ps"]["modules"]
    assert about["process"] == ps.pid
    assert (module["name"], module["interface"], module["device"]) == ("encoder", "Encoder", "cpu")
    assert module["bytes"] == 4 * (8 * 8 + 8)
    assert about["since"] < module["since"] < time.time()
    heading, worker, hosted, *_ = table[1].splitlines()
    assert heading.split() == ["WORKER", "MODULE", "INTERFACE", "DEVICE", "SIZE", "SINCE"]
    assert worker.startswith(f"ps       (process {ps.pid} on ")
    assert hosted.split()[:5] == ["encoder", "Encoder", "cpu", "288", "B"]
    stop(stopped.pid)
    impatient = (*ls, "--timeout", "0.5", "--patience", "0.5")
    ((status, out, _),) = run_commands(tmp_path, impatient)
    assert status == 3
    assert "\nstopped  (does not answer)\n" in out
    assert f"\nps       (process {ps.pid} on " in out
    stopped.kill()


def test_no_hub():
    command = [sys.executable, "-m", "torchremote", "call", "--address", "127.0.0.1:1", "ps/encoder"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "no hub can be reached at 127.0.0.1:1" in done.stderr


def test_serve_ends_when_told_and_lets_calls_finish(start, address, tmp_path):
    slow = served(
        *(start, address, tmp_path / "slow", "tests.zoo:SlowLoop", "--interface", "tests.zoo:Sleeper"),
        *("--name", "slow", "--worker", "slow", "--json"),
    )
    call = Fork(call_and_say, address, output=tmp_path / "call")
    until(lambda: (tmp_path / "call").exists() and "it runs" in (tmp_path / "call").read_text(), seconds=60)
    status, said = slow.end()
    assert status == 0
    *_, serving, left = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
    assert serving["event"] == "serving"
    assert (serving["worker"], serving["name"], serving["interface"]) == ("slow", "slow", "Sleeper")
    assert left == {"event": "left", "worker": "slow", "unfinished": 0}
    assert call.wait(60) == 0, (tmp_path / "call").read_text()
    assert "tensor([200001.])" in (tmp_path / "call").read_text()


def test_serve_ends_although_a_call_goes_on(start, address, tmp_path):
    slow = served(
        *(start, address, tmp_path / "slow", "tests.zoo:SlowLoop", "--interface", "tests.zoo:Sleeper"),
        *("--name", "slow", "--worker", "slow", "--drain", "0.5"),
    )
    call = Fork(call_and_say, address, 10**9, output=tmp_path / "call")
    until(lambda: (tmp_path / "call").exists() and "it runs" in (tmp_path / "call").read_text(), seconds=60)
    status, said = slow.end(seconds=40)
    assert status == 0
    assert "left slow, with 1 calls unfinished" in said
    call.kill()
    call.wait()


def call_and_say(address, rounds=200_000):
    """Makes a long call, and says when it runs."""
    torchremote.join("caller", address, shared_memory=False)
    stub = torchremote.connect("slow", zoo.Sleeper, "slow")
    for _ in range(3):  # TorchScript takes its time before the first calls begin
        stub(torch.ones(1), 1)
    answer = stub.forward_async(torch.ones(1), rounds)
    until(lambda: torchremote.stats("slow").running > 1)  # beside the question
    print("it runs", flush=True)
    print(answer.wait(), flush=True)
    torchremote.leave()


def test_serve_takes_the_place_of_another(start, address, tmp_path):
    first = served(start, address, tmp_path / "first", *ENCODER, "--name", "encoder", "--worker", "again")
    refused = start(tmp_path / "second", "serve", *ENCODER, "--name", "e", "--worker", "again", "--address", address)
    status, said = refused.ended()
    assert status == 1
    assert re.search("the name is that of 'again' .*; choose another, .* `torchremote serve --replace` ends", said)
    new = (*ENCODER[:-1], "4")
    second = served(start, address, tmp_path / "third", *new, "--name", "encoder", "--worker", "again", "--replace")
    assert first.ended()[0] == 0
    x = torch.rand(2, 8)
    torch.save(x, tmp_path / "x.pt")
    call = ("call", "--address", address, "again/encoder", tmp_path / "x.pt", "--output", tmp_path / "y.pt")
    withdraw = ("withdraw", "again/encoder", "--address", address)
    called, withdrawn, gone = run_commands(tmp_path, call, (*withdraw, "--json"), withdraw)
    assert called[0] == 0, called
    assert torch.equal(torch.load(tmp_path / "y.pt"), zoo.LinearEncoder.output(4, x))
    assert json.loads(withdrawn[1]) == {"worker": "again", "name": "encoder"}
    assert gone[0] == 1
    assert "'encoder': not served by the worker 'again'; served are: none" in gone[2]
    status, said = second.end(signal.SIGINT)
    assert status == 0, said


def test_serve_of_files(start, address, tmp_path):
    linear = torch.nn.Linear(4, 2)
    x = torch.rand(3, 4)
    torch.save(x, tmp_path / "x.pt")
    batch = torch.export.Dim("batch")
    program = torch.export.export(linear, (torch.ones(3, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "linear.pt2")
    torch.jit.script(zoo.SlowLoop()).save(tmp_path / "loop.pt")
    programs = [
        served(start, address, tmp_path / "a", tmp_path / "linear.pt2", "--name", "linear", "--worker", "a"),
        served(
            *(start, address, tmp_path / "b", tmp_path / "loop.pt", "--interface", "tests.zoo:Sleeper"),
            *("--name", "a.loop", "--worker", "b", "--eval", "--device", "cpu"),
        ),
    ]
    call = ("call", "--address", address)
    results = run_commands(
        tmp_path,
        (*call, "a/linear", tmp_path / "x.pt", "--output", tmp_path / "y.pt"),
        (*call, "b/a.loop.forward", tmp_path / "x.pt", "1", "--output", tmp_path / "z.pt"),
    )
    assert [status for status, _, _ in results] == [0, 0], results
    assert torch.allclose(torch.load(tmp_path / "y.pt"), linear(x))
    assert torch.equal(torch.load(tmp_path / "z.pt"), x + 1)
    for program in programs:
        assert program.end()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tests.zoo:Nowhere", "--interface", "tests.zoo:Encoder"], "has no attribute 'Nowhere'"),
        (["tests.zoo:Raising", "--interface", "tests.zoo:Encoder"], "tests.zoo:Raising raised KeyError"),
        (["tests.zoo:Color", "--interface", "tests.zoo:Encoder", "--args", "1"], "made Color, which is no torch.nn"),
        (["tests.zoo:NAMED", "--interface", "tests.zoo:Encoder"], "is a tuple, neither a class nor a factory"),
        (["absent.pt", "--interface", "tests.zoo:Encoder"], "absent.pt: torch.jit cannot load it"),
        (["absent.pt2"], "absent.pt2: torch.export cannot load it"),
        (["tests.zoo:LinearEncoder", "--interface", "tests.zoo:Encoder", "--device", "cuda:9"], "device 'cuda:9': not"),
        (["tests.zoo:OtherModule", "--interface", "tests.zoo:Encoder"], "Encoder.fail: OtherModule has no such method"),
        ([*ENCODER, "--metrics-port", "192.0.2.1:0"], "--metrics-port: cannot listen on 192.0.2.1:0: Cannot assign"),
    ],
)
def test_what_serve_refuses(arguments, message, capsys):
    where = ("--name", "x", "--worker", "w", "--address", "127.0.0.1:1")
    assert cli.main(["serve", *arguments, *where, "--no-counts"]) == 1
    assert message in capsys.readouterr().err


class OnTensor:
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...


def exported_for_training():
    return torchremote.exported(torch.nn.Dropout().train(), OnTensor, {"forward": (torch.ones(2, 3),)})


def test_what_was_exported_for_training_is_not_served_for_evaluation(tmp_path, capsys):
    program = torch.export.export(torch.nn.Dropout().train(), (torch.ones(2, 3),))
    torch.export.save(program, tmp_path / "dropout.pt2")
    factory = ["tests.tools.test_serving:exported_for_training", "--interface", "tests.tools.test_serving:OnTensor"]
    where = ("--name", "x", "--worker", "w", "--address", "127.0.0.1:1", "--no-counts", "--eval")
    for target in ([str(tmp_path / "dropout.pt2")], factory):
        assert cli.main(["serve", *target, *where]) == 1
        said = capsys.readouterr()
        assert "was exported in training mode alone, so it cannot run in evaluation mode; call .eval()" in said.err
        assert "serving" not in said.out


def test_what_torchscript_refuses_is_told_what_to_give_at_the_command_line(capsys):
    where = ("--name", "x", "--worker", "w", "--address", "127.0.0.1:1", "--no-counts")
    module = ("tests.zoo:NotScriptable", "--interface", "tests.zoo:Encoder")
    assert cli.main(["serve", *module, *where]) == 1
    said = capsys.readouterr().err
    assert "give --examples package.module:examples, with arguments of its methods" in said
    assert "examples=" not in said


def test_extras_that_are_not_there_are_named(capsys, monkeypatch):
    for package in ("rich", "rich.live", "rich.table", "prometheus_client"):
        monkeypatch.setitem(sys.modules, package, None)
    for module in ("drawn", "metrics"):
        monkeypatch.delitem(sys.modules, f"torchremote.tools.{module}", raising=False)
    assert cli.main(["top"]) == 1
    assert "top needs more: pip install 'torchremote[top]', or use --json" in capsys.readouterr().err
    where = ("--name", "x", "--worker", "w", "--no-counts", "--metrics-port", "0")
    assert cli.main(["serve", *ENCODER, *where]) == 1
    assert "--metrics-port needs more: pip install 'torchremote[metrics]'" in capsys.readouterr().err


def test_a_signal_at_any_moment_ends_serve(address, tmp_path):
    output = tmp_path / "output"
    process = Fork(serve_and_be_told_while_waiting, address, output=output)
    try:
        assert process.wait(100) == 0, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert "left worst" in output.read_text()


def serve_and_be_told_while_waiting(address):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # as whoever started it may have done
    send_in_wait_of("_serve", signal.SIGTERM)
    status = cli.main(["serve", *ENCODER, "--name", "encoder", "--worker", "worst", "--address", address])
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    sys.exit(status)


def test_what_serve_cannot_join_with_is_said_in_a_line(tmp_path):
    where = ("--name", "encoder", "--no-counts", "--address", "127.0.0.1:1", "--timeout", "1")
    ((status, _, said),) = run_commands(tmp_path, ("serve", *ENCODER, *where, "--worker", "w"))
    assert status == 1
    assert "torchremote: join 'w': no hub can be reached at 127.0.0.1:1" in said
