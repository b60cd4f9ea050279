"""Consumes a finished run, checks that every notebook executes on it and that none is committed with outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from assay import open_workspace
from assay.demo import dataset_file, write_source
from assay.errors import DataError

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.spark
def test_every_notebook_runs_on_a_finished_run(run_job, workspace, monkeypatch):
    write_source(workspace)
    run_job("pipeline", dataset_file(), overrides=["engine.rounds=40"])
    monkeypatch.setenv("ASSAY_WORKSPACE", str(workspace))
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}
        ).execute()
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
        assert any("image/png" in o.get("data", {}) for o in outputs)
    tables = open_workspace(workspace).tables()
    assert tables.filter(table="observations")["rows"].item() == 8602
    with pytest.raises(DataError, match="no table 'nothing'"):
        open_workspace(workspace).table("nothing")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebooks_are_committed_without_outputs_and_define_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert "def " not in cell.source
        assert "class " not in cell.source


def test_a_folder_that_is_no_workspace_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no workspace"):
        open_workspace(tmp_path)
