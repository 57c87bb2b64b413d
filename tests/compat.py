"""Archives between versions of torch: `make compat` runs this with the Python of each environment.

What one environment saves, each loads, connects to a module that it serves, and calls: with the same results.
"""

import itertools
import os
import pathlib
import sys
import tempfile

from .archive.reader import reading
from .archive.test_load import saving, serving
from .group import play


def main(pythons):
    with tempfile.TemporaryDirectory() as temporary:
        results = set()
        for number, (writer, reader) in enumerate(itertools.product(pythons, repeat=2)):
            folder = pathlib.Path(temporary, str(number))
            folder.mkdir()
            os.environ["TORCHREMOTE_TEST_ARCHIVE"] = str(folder / "model.pt")
            play(folder, serving, saving, python=writer)
            _, told = play(folder, serving, reading, python=reader)
            result = [line for line in told.splitlines() if line.startswith(("model: ", "tinting: "))]
            print(f"saved by {writer}, loaded by {reader}: {'; '.join(result)}", flush=True)
            assert len(result) == 2, told
            results.add(tuple(result))
    assert len(results) == 1, results


if __name__ == "__main__":
    main(sys.argv[1:])
