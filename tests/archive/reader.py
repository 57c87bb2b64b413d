"""A worker that has nothing but archives: it cannot import an interface, nor an enum of one."""

import os
import sys

import torch

import torchremote as tr


def reading(store):
    sys.modules["tests.zoo"] = None
    sys.modules["tests.gallery"] = None
    store.wait(["served"])
    archive = os.environ["TORCHREMOTE_TEST_ARCHIVE"]
    model = tr.load(archive)
    print(f"model: {model(torch.ones(2, 8)).sum():.4f}")
    tinting = tr.load(f"{archive}.tinting")
    (color,) = tinting._torchremote_compiled.contract.classes.values()
    print("tinting:", tinting(color.GREEN), color.__module__)
    print("tests.zoo:", sys.modules["tests.zoo"])
    store.set("done", "yes")
