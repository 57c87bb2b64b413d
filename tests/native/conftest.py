"""What needs the native part is collected where it is used: `make test` runs the tests of calls with it and without."""

from torchremote import native

UNBUILT = ["test_calls.py", "test_compiled.py", "test_following.py", "test_strands.py", "test_tensors.py"]
collect_ignore = [] if native.available() else UNBUILT
