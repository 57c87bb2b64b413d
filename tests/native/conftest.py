"""What needs the native part is collected where it is used: `make test` runs the tests of calls with it and without."""

from torchremote import native

UNBUILT = [f"test_{name}.py" for name in "calls compiled following strands tensors native_call".split()]
collect_ignore = [] if native.available() else UNBUILT
