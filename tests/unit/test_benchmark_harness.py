"""Consumes contenders that cost nothing, checks the harness's figures and one real contender of `train`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from benchmarks import _market, harness  # noqa: E402


def found(seconds: float, rmse: float, peak: float = 10.0) -> dict[str, object]:
    return {"seconds": seconds, "peak_mb": peak, "peak_python_mb": peak, "outputs": {"rmse": rmse}}


def test_contenders_take_turns_and_ratios_are_ours_over_theirs(monkeypatch, tmp_path):
    calls = []
    answers = {
        "assay": iter([found(2, 1.0), found(4, 1.0, 30.0), found(3, 1.0)]),
        "rival": iter([found(6, 1.1), found(6, 1.1), found(12, 1.1)]),
    }

    def answer(_: str, contender: str, __: Path) -> dict[str, object]:
        calls.append(contender)
        return next(answers[contender])

    monkeypatch.setattr(harness, "CACHE", tmp_path)
    monkeypatch.setattr(harness, "_in_its_own_process", answer)
    made = []
    contender = harness.Contender(lambda _: None, lambda _: None, lambda _: {})
    benchmark = harness.Benchmark("b", 5, lambda f, r: made.append((f, r)), {"assay": contender, "rival": contender})
    outcome = harness.run(benchmark, rows=7, repeats=3)
    assert calls == ["assay", "rival"] * 3
    assert outcome.seconds == {"assay": 3, "rival": 6}
    assert outcome.ratios == {"rival": 0.5}
    assert outcome.peak_mb == {"assay": 30.0, "rival": 10.0}
    assert outcome.spread["assay"] == pytest.approx((4 - 2) / 2 / 3)
    assert outcome.max_difference == pytest.approx(0.1)
    keys = {"benchmark", "rows", "seconds", "ratios", "spread", "max_difference", "peak_mb"}
    assert keys <= set(json.loads(json.dumps(outcome.as_dict())))
    assert "rival" in outcome.table()
    answers["assay"], answers["rival"] = iter([found(1, 1.0)]), iter([found(1, 1.0)])
    harness.run(benchmark, rows=7, repeats=1)
    assert made == [(tmp_path / "b-7", 7)]  # the data are made once


def test_the_command_measures_a_real_contender(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "lib")])}
    command = [sys.executable, "-m", "benchmarks", "train", "--rows", "4800", "--repeats", "1", "--json"]
    done = subprocess.run(
        [*command, "--only", "native_xgboost"], env=environment, capture_output=True, text=True, check=True
    )
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["rows"] == 4800
    assert outcome["seconds"]["native_xgboost"] > 0
    assert outcome["peak_mb"]["native_xgboost"] > 50
    assert outcome["outputs"]["native_xgboost"]["rmse"] < 2


def test_training_starts_from_64_numbers_of_a_generated_market_by_month(tmp_path):
    _market.generate(tmp_path, 4 * 731)
    table = DeltaTable(tmp_path / "lake" / "features")
    frame = pl.from_arrow(table.to_pyarrow_table()).sort("row_id")
    assert table.metadata().partition_columns == ["month"]
    assert frame["row_id"].to_list() == list(range(4 * 731))
    assert (frame["month"] == frame["time"].dt.strftime("%Y-%m")).all()
    assert (frame["month"].min(), frame["month"].max(), frame["month"].n_unique()) == ("2023-01", "2024-12", 24)
    assert len(_market.NAMES) == len(set(_market.NAMES)) == 64
    assert set(frame.select(_market.NAMES).dtypes) == {pl.Float32}
    assert frame.select(*_market.NAMES, "y").null_count().sum_horizontal().item() == 0
    # A run that was killed leaves files that no log names; contenders that read the folder would find them.
    _market.generate(tmp_path, 4 * 731)
    assert len(list((tmp_path / "lake" / "features").rglob("*.parquet"))) == 24


def test_benchmarks_of_one_data_set_share_it(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "CACHE", tmp_path)
    monkeypatch.setattr(harness, "_in_its_own_process", lambda *_: found(1.0, 1.0))
    contender, made = harness.Contender(lambda _: None, lambda _: None, lambda _: {}), []
    for name in ("one", "other"):
        benchmark = harness.Benchmark(name, 5, lambda f, _: made.append(f), {"assay": contender}, data="shared")
        harness.run(benchmark, rows=7, repeats=1)
    assert made == [tmp_path / "shared-7"]


def test_growth_is_the_cost_of_a_row_over_its_cost_at_a_tenth(monkeypatch, tmp_path):
    seconds = {"b-100": 2.0, "b-1000": 30.0}
    monkeypatch.setattr(harness, "CACHE", tmp_path)
    monkeypatch.setattr(harness, "_in_its_own_process", lambda _, __, data: found(seconds[data.name], 1.0))
    contender = harness.Contender(lambda _: None, lambda _: None, lambda _: {})
    benchmark = harness.Benchmark("b", 5, lambda *_: None, {"assay": contender})
    small, large = (harness.run(benchmark, rows=rows, repeats=1) for rows in (100, 1000))
    assert harness.with_growth(small, large).per_row_growth == {"assay": pytest.approx(1.5)}
    assert "a row costs 1.50" in harness.with_growth(small, large).table()


def test_results_that_differ_and_contenders_without_their_library_are_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(harness, "CACHE", tmp_path)
    monkeypatch.setattr(harness, "_in_its_own_process", lambda *_: found(1.0, 1.0))
    contender = harness.Contender(lambda _: None, lambda _: None, lambda _: {})
    absent = harness.Contender(lambda _: None, lambda _: None, lambda _: {}, needs="no_such_library")
    part = harness.Contender(lambda _: None, lambda _: None, lambda _: {}, against="rival")
    contenders = {"assay": contender, "rival": contender, "part": part, "absent": absent}
    benchmark = harness.Benchmark(
        "b", 5, lambda *_: None, contenders, differences=lambda _, names: dict.fromkeys(names[1:], 0.5), tolerance=0.1
    )
    outcome = harness.run(benchmark, rows=1, repeats=1)
    assert set(outcome.seconds) == {"assay", "rival", "part"}
    assert "absent is left out: it needs no_such_library" in capsys.readouterr().err
    assert outcome.ratios == {"rival": 1.0, "part": 1.0}
    assert (outcome.max_difference, outcome.agrees) == (0.5, False)
    with pytest.raises(SystemExit, match="--only nobody: choose among assay"):
        harness.run(benchmark, rows=1, repeats=1, only=["nobody"])
    assert set(harness.run(benchmark, rows=1, repeats=1, only=["*a*"]).seconds) == {"assay", "rival", "part"}
    assert set(harness.run(benchmark, rows=1, repeats=1, only=["r*", "part"]).seconds) == {"rival", "part"}
