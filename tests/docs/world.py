"""The two workers that the blocks of all pages run on, and the process for blocks that want none.

python -m tests.docs.world trainer|ps FOLDER PAGE ...
python -m tests.docs.world alone FOLDER PAGE
"""

import ctypes
import gc
import json
import pathlib
import signal
import sys
import traceback
import types

import torch
import torch.distributed.rpc as rpc

import torchremote

from .blocks import blocks_of, write_files, write_source

_names = set()
_shared = set(sys.modules)


def enter(folder):
    """Has this worker find the files of one page, and forget those of the last."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(sys.path[0]) and name not in _shared:
            del sys.modules[name]
    sys.path[0] = folder


def execute(path, line, text):
    """Runs a block; those of one page share their names."""
    path = pathlib.Path(path)
    if path.stem not in sys.modules:
        sys.modules[path.stem] = types.ModuleType(path.stem)
        sys.modules[path.stem].__file__ = str(path)
    # Names of blocks count, and those of this module do not: TorchScript and pickle look them up.
    exec(compile("\n" * (line - 1) + text, path, "exec", dont_inherit=True), vars(sys.modules[path.stem]))


def run(page, kinds, folder):
    folder = folder / page
    folder.mkdir(exist_ok=True)
    write_files(page, folder)
    path = write_source(page, folder)
    enter(str(folder))
    if "on ps" in kinds:
        rpc.rpc_sync("ps", enter, (str(folder),))
    for block in blocks_of(page):
        if block.kind not in kinds:
            continue
        if block.kind == "on ps":
            rpc.rpc_sync("ps", execute, (str(path), block.line, block.text))
        else:
            execute(path, block.line, block.text)
    for name, found in list(vars(sys.modules.get(path.stem, types)).items()):
        if name.startswith("test_"):
            found()
    sys.modules.pop(path.stem, None)
    gc.collect()


def main(name, folder, *pages):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # a test run that is killed leaves nothing behind
    torch.set_num_threads(1)
    folder = pathlib.Path(folder)
    sys.path.insert(0, str(folder))
    if name == "alone":
        run(*pages, ("alone",), folder)
        return
    options = torchremote.rpc_options(init_method=f"file://{folder}/store", rpc_timeout=30, in_turn=True)
    rpc.init_rpc(name, rank=("trainer", "ps").index(name), world_size=2, rpc_backend_options=options)
    failures = {}
    for page in pages if name == "trainer" else ():
        print(page, flush=True)
        try:
            run(page, ("on trainer", "on ps"), folder)
        except Exception:
            failures[page] = traceback.format_exc()
    if name == "trainer":
        (folder / "failures.json").write_text(json.dumps(failures))
    rpc.shutdown()


if __name__ == "__main__":
    # Functions that are sent are of the module that the other worker imports.
    from tests.docs import world

    world.main(*sys.argv[1:])
