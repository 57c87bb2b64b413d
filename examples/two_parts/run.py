"""A model with two remote parts: trained, saved, and served again by new processes. Runs all of them on this machine.

    python examples/two_parts/run.py [--epochs 15]

The second three processes start in folders of their own: one has the archive, the others a part's code and state.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        names = ("trainer", "left", "right")
        training = {name: new_folder(folder / name, "train.py", "parts.py", "data.py") for name in names}
        run("train.py", training, f"file://{folder}/training", str(options.epochs))

        front = new_folder(folder / "front", "serve.py", "data.py")
        shutil.copy(training["trainer"] / "model.pt", front)
        serving = {"front": front}
        for name in ("left", "right"):
            serving[name] = new_folder(folder / f"serving_{name}", "serve.py", "parts.py")
            shutil.copy(training[name] / f"{name}.pt", serving[name])
        run("serve.py", serving, f"file://{folder}/serving")


def new_folder(folder: pathlib.Path, *files: str) -> pathlib.Path:
    folder.mkdir()
    for file in files:
        shutil.copy(HERE / file, folder)
    return folder


def run(script: str, folders: dict[str, pathlib.Path], rendezvous: str, *arguments: str) -> None:
    """Runs `script` once in each folder, all at the same time; the first has the rank 0 and the arguments."""
    processes = []
    try:
        for rank, (name, folder) in enumerate(folders.items()):
            command = [sys.executable, "-W", "ignore", script, name, str(rank), rendezvous]
            processes.append(subprocess.Popen([*command, *(arguments if rank == 0 else ())], cwd=folder))
        for process in processes:
            if process.wait(timeout=300):
                sys.exit(f"{script} failed")
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    main()
