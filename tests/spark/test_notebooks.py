"""Consumes the notebooks, checks that they run, that what they show is so, and that none is committed with outputs."""

from __future__ import annotations

import re

import mlflow
import nbformat
import polars as pl
import pytest

import assay
from assay.demo import dataset_file, write_source
from assay.errors import DataError, UserError
from assay.scoring.udf import champion_of
from notebook_runs import FOLDER, executed, pages

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MACHINE_PATH = re.compile(r"""file://|[A-Z]:\\|["' (=]~?/(?!/)[\w.]+/""")  # absolute ones, or in somebody's home
UNCERTAINTY = (
    *("around", "segments", "by_condition", "monthly", "few"),
    *("states", "same", "unsure_rows", "fifths", "flags"),
)
FEATURES = ("families", "by_hand", "errors", "most")
TUNING = ("trials", "candidates", "compared")
SEGMENTS = ("segments", "slab", "planted", "decisions", "rivals", "kept")


@pytest.mark.spark
def test_the_quickstart_runs_on_a_finished_run(run_job, workspace, empty_store, monkeypatch):
    write_source(workspace)
    run_job("pipeline", dataset_file(), overrides=["engine.rounds=40"])
    monkeypatch.setenv("ASSAY_WORKSPACE", str(workspace))
    outputs, _ = executed(FOLDER / "01_quickstart.ipynb")
    cards = [o["data"]["text/html"] for o in outputs if "assay-card" in o.get("data", {}).get("text/html", "")]
    assert [re.search(r'aria-label="([^"]*)"', card)[1] for card in cards] == [
        *("workspace workspace", "model of median", "run of train")
    ]
    assert len(pages(outputs)) == 1
    monkeypatch.setattr(mlflow.tracking._model_registry.utils, "_registry_uri", f"sqlite:///{empty_store}")
    assert champion_of(workspace).number == "1"  # whichever store this process uses
    found = assay.open(workspace)
    assert found.tables().filter(table="observations")["rows"].item() == 8602
    with pytest.raises(DataError, match="no table 'nothing'"):
        found.table("nothing")
    with pytest.raises(DataError, match=r"nothing was evaluated by 'nothing', but by city, .*\(evaluation.segments\)"):
        found.segments("nothing")
    with pytest.raises(DataError, match="segments of which target"):
        found.segments("city", target="price")
    table = found.table("segment_metrics").filter(segment_column="city", metric="coverage_90").sort("segment")
    wide = found.segments("city").sort("segment")
    assert wide["segment"].is_unique().all()
    for ours, theirs in (("rows", "rows"), ("coverage_90", "value"), ("coverage_90_low", "low")):
        assert wide[ours].to_list() == table[theirs].to_list()


@pytest.mark.spark
def test_uncertainty_and_segments_run_on_a_market_of_their_own(empty_store, tmp_path, monkeypatch):
    """One market and one workspace for both; the second finds what the first has trained."""
    folder = tmp_path / "market"
    (folder / "market_run").mkdir(parents=True)
    (folder / "market_run" / "mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.setenv("ASSAY_FOLDER", str(folder))
    _, found = executed(FOLDER / "02_uncertainty.ipynb", UNCERTAINTY)
    check_coverage(found)
    check_calibration(found)
    check_predictions(found)
    outputs, found = executed(FOLDER / "03_segments.ipynb", SEGMENTS)
    check_segments(outputs, found)
    jobs = assay.open_workspace(folder / "market_run").runs()
    assert (jobs["job"] == "train").sum() == 1


def check_coverage(found):
    """Adaptive intervals come nearer to the promise than fitted ones once prices have moved, in every segment."""
    around = {(way, period): row for way, period, *row in found["around"].iter_rows()}
    for place, promise in ((1, 0.8), (2, 0.9)):
        for way in ("absolute", "normalised", "cqr"):
            assert abs(around[way, "before"][place] - promise) < 0.06
            assert around[way, "after"][place] < promise - 0.15
        assert abs(around["adaptive", "after"][place] - promise) < 0.04
        assert abs(around["adaptive", "before"][place] - promise) < 0.04
    segments = found["segments"]
    assert segments.height == 6
    assert ((segments["adaptive"] - 0.9).abs() < (segments["absolute"] - 0.9).abs()).all()
    quarters = found["by_condition"].partition_by("way", as_dict=True)
    spread = {way: part["held"].max() - part["held"].min() for (way,), part in quarters.items()}
    assert spread["cqr"] < spread["absolute"] - 0.02
    for way, least in (("cqr", 1.05), ("normalised", 1.0)):  # wider where noise was planted
        assert quarters[way,]["width"][-1] > least * quarters[way,]["width"][0]


def check_calibration(found):
    """Weights by age help after the shift; too few rows give infinite intervals; every step is on record."""
    after = found["monthly"].tail(8)
    assert (after["by_age"] - 0.9).abs().mean() < (after["alike"] - 0.9).abs().mean() - 0.05
    infinite = found["few"].with_columns(pl.exclude("rows").cast(pl.Float64).is_infinite())
    assert infinite["quantile_80"].to_list() == (infinite["rows"] < 4).to_list()
    assert infinite["quantile_90"].to_list() == (infinite["rows"] < 9).to_list()
    assert found["states"]["segment"].n_unique() == 1 + 3 + 6


def check_predictions(found):
    """The UDF says what the table says, warns of infinite intervals, and confidence orders errors."""
    assert found["same"].height == 4 * 60
    assert found["same"]["prediction"].to_list() == found["same"]["in_table"].to_list()
    assert set(found["unsure_rows"]["quality"]) == {"warn"}
    assert all("infinite_interval:90" in reasons for reasons in found["unsure_rows"]["quality_reasons"])
    assert found["unsure_rows"]["upper_80"].cast(pl.Float64).is_finite().all()
    fifths = found["fifths"]
    assert fifths["median_error"][0] > 1.1 * fifths["median_error"][-1]
    assert fifths["confidence"].is_sorted()
    assert {"ok", "warn"} <= set(found["flags"]["quality"])


def check_segments(outputs, found):
    """All rows are in a segment of each column; the slab is where noise was planted; widths and model are worth it."""
    segments, planted, rivals = found["segments"], found["planted"], found["rivals"]
    rows = segments.group_by("by").agg(pl.col("rows").sum())
    assert rows.height == 6
    assert rows["rows"].n_unique() == 1
    assert (segments["low"] <= segments["held"]).all()
    assert (segments["held"] <= segments["high"]).all()
    assert "condition" in found["slab"].drop_nulls("held")["segment"].item()
    assert planted["noise_sd"].is_sorted()
    kept = found["kept"].sort("segment")["median_ape"]
    assert kept[0] < kept[-1]
    for level in (80, 90):
        part = found["decisions"].filter(level=level)
        assert part["rows"].sum() == rows["rows"][0]
        assert part.sort("segment").height >= 2
    assert (rivals["rmse_difference_high"] < 0).all()
    told = "".join(o.get("text", "") for o in outputs)
    assert "Least wrong: " in told
    assert "Held least: " in told
    inline = pages(outputs)
    assert len(inline) == 1
    assert "Where is it best, and where worst?" in inline[0]


@pytest.mark.spark
def test_features_and_tuning_run_on_markets_of_their_own(empty_store, tmp_path, monkeypatch):
    for workspace in ("told_run", "told_run_leaking", "tuned_run"):
        (tmp_path / workspace).mkdir()
        (tmp_path / workspace / "mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.setenv("ASSAY_FOLDER", str(tmp_path))
    outputs, found = executed(FOLDER / "05_features.ipynb", FEATURES)
    honest, leaking = found["by_hand"].sort("window").iter_rows(named=True)
    assert honest["largest_difference"] < 1e-6  # 32 bits
    assert leaking["largest_difference"] > 0.01
    assert leaking["correlation_with_price"] > honest["correlation_with_price"]
    assert "'differences': {}" in "".join(o.get("data", {}).get("text/plain", "") for o in outputs)
    rmse = dict(found["errors"].iter_rows())
    assert rmse["leaking"] < rmse["the truth"] < rmse["honest"] < rmse["best rule"]
    assert "assessed_value" in found["most"].filter(way="leaking")["input"].to_list()
    _, found = executed(FOLDER / "06_tuning.ipynb", TUNING)
    trials, candidates = found["trials"], found["candidates"]
    assert trials.height == 8
    assert trials.filter(state="complete")["loss"].min() <= trials["loss"][0]
    assert {"xgboost", "linear", "random_forest", "stacking"} < set(candidates["who"])
    assert candidates["rmse_where_fitted"].arg_min() != 0  # who fits best there is not who serves
    assert (found["compared"]["rmse"] < found["compared"]["best_rule"]).all()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebooks_are_committed_as_written_and_define_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert dict(notebook.metadata.language_info) == {"name": "python"}
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell.metadata
        assert not cell.get("attachments")
        assert "def " not in cell.source
        assert "class " not in cell.source
        assert not MACHINE_PATH.search(cell.source), cell.source
        if cell.cell_type == "markdown":  # what a run finds is said by the cell that finds it
            assert set(re.findall(r"\d+(?:[.,]\d+)* ?%", cell.source)) <= {"80 %", "90 %", "95 %"}


@pytest.mark.parametrize("text", ['open("/home/me/x.csv")', "see ~/data/x", "file:///x", r"C:\data", "read /srv/x"])
def test_a_machine_path_is_found(text):
    assert MACHINE_PATH.search(text)


def test_a_folder_that_is_no_workspace_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no workspace"):
        assay.open_workspace(tmp_path)


def test_an_unknown_job_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="no job 'calibrat'; did you mean calibrate"):
        assay.run("calibrat", tmp_path / "dataset.yml", tmp_path)
