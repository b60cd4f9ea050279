"""Runs a notebook in a kernel of its own, produces what it shows, and rows of its frames as they were at its end."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import polars as pl
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
FRAMES = """
import json as _json
import polars as _polars
print(_json.dumps({{name: _polars.DataFrame(globals()[name]).to_dicts() for name in {names}}}, default=str))
"""


def executed(path, frames=()):
    """A notebook's outputs after it ran, and rows of its frames, as they were at its end."""
    notebook = nbformat.read(path, as_version=4)
    cells = len(notebook.cells)
    if frames:
        notebook.cells.append(nbformat.v4.new_code_cell(FRAMES.format(names=tuple(frames))))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    outputs = [o for cell in notebook.cells[:cells] for o in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]  # such as of a plot that cannot be drawn
    assert any("image/png" in o.get("data", {}) for o in outputs)
    rows = json.loads(notebook.cells[-1].outputs[0].text) if frames else {}
    return outputs, {name: pl.DataFrame(found, infer_schema_length=None) for name, found in rows.items()}


def pages(outputs):
    """HTML pages that are shown inline, escaped."""
    return [o["data"]["text/html"] for o in outputs if "iframe" in o.get("data", {}).get("text/html", "")]
