"""The notebook in examples/ runs as it is, in a kernel, and gives its pictures."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parent.parent / "examples" / "notebook" / "two_processes.ipynb"


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_it_runs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) == 2, "it is kept with its pictures"
    assert all(not cell.outputs or cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    said = "".join(output.get("text", "") for output in outputs(notebook))
    assert "the worker cannot import ConvFeatures, so it is built and scripted here, and sent" in said
    tables = [output["data"]["text/html"] for output in outputs(notebook) if "text/html" in output.get("data", {})]
    assert len(tables) == 2
    assert all("answers" in table and "forward(images: Tensor)" in table for table in tables)
    assert "Error - Features" in said
