"""Consumes invented predictions, checks the comparison of `benchmark research`; and that plain boosters see no more."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from benchmarks import _plain, research  # noqa: E402
from benchmarks.harness import Outcome  # noqa: E402

DAYS, A_DAY = 60, 20


def told(folder, dataset, kind, error, *, target="price", classes=False, rows=DAYS * A_DAY):
    """A contender's file: errors of so much, up and down."""
    random = np.random.default_rng(3)
    n = np.arange(rows)
    actual = (random.random(rows) < 0.5).astype(float) if classes else 100 + 10 * random.random(rows)
    wrong = np.where(n % 2, error, -error) * random.uniform(0.5, 1.5, rows)
    said = np.abs(actual - np.abs(wrong)).clip(0.01, 0.99) if classes else actual + wrong
    time = pl.Series([dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(days=int(i // A_DAY)) for i in n])
    frame = pl.DataFrame({"row_id": n, "time": time, "told": said, "actual": actual, "target": target})
    frame = frame.with_columns(before=pl.col("actual") * 0.99, last_return=pl.lit(0.5))
    frame.sample(fraction=1, shuffle=True, seed=error.__hash__() % 100).write_parquet(
        folder / f"{dataset}-{kind}.parquet"
    )


def test_losses_are_those_of_the_same_rows_in_whatever_order(tmp_path):
    told(tmp_path, "kc_house", "assay", 1.0)
    told(tmp_path, "kc_house", "xgboost", 2.0)
    (found,) = research.compared(tmp_path, "kc_house")
    frame = pl.read_parquet(tmp_path / "kc_house-assay.parquet")
    assert found.ours == pytest.approx(((frame["told"] - frame["actual"]) ** 2).mean() ** 0.5)
    assert found.theirs == pytest.approx(2 * found.ours)
    assert found.low <= found.ours - found.theirs <= found.high < 0
    assert found.loss == "RMSE"


def test_of_classes_it_is_the_log_loss_and_of_returns_their_error(tmp_path):
    for kind, error in (("assay", 0.4), ("catboost", 0.2)):
        told(tmp_path, "telco_churn", kind, error, target="Churn", classes=True)
        told(tmp_path, "sp500_daily", kind, error, target="Adj Close")
    (churn,), (returns,) = (research.compared(tmp_path, name) for name in ("telco_churn", "sp500_daily"))
    frame = pl.read_parquet(tmp_path / "telco_churn-assay.parquet")
    right = np.where(frame["actual"] == 1, frame["told"], 1 - frame["told"])
    assert churn.ours == pytest.approx(-np.log(right).mean())
    assert churn.low > 0  # worse beyond doubt
    frame = pl.read_parquet(tmp_path / "sp500_daily-assay.parquet")
    assert returns.ours == pytest.approx((np.log(frame["told"] / frame["actual"]) ** 2).mean() ** 0.5)
    (over_none, over_last), *_ = [research.skill(tmp_path, "sp500_daily")[:2]]
    none = np.log(1 / 0.99) ** 2
    assert f"skill of assay over no return {100 * (1 - returns.ours**2 / none):+.2f} %" in over_none
    assert "over the last return" in over_last


def test_other_rows_are_not_compared(tmp_path):
    told(tmp_path, "kc_house", "assay", 1.0)
    told(tmp_path, "kc_house", "xgboost", 2.0, rows=A_DAY)
    with pytest.raises(SystemExit, match="not the same"):
        research.compared(tmp_path, "kc_house")


def test_the_report_says_what_is_lost_and_what_is_of_an_earlier_run(monkeypatch, tmp_path):
    monkeypatch.setattr(research, "CACHE", tmp_path)
    folder = tmp_path / "research-1"
    folder.mkdir()
    for kind, error in (("assay", 1.0), ("xgboost", 0.5), ("catboost", 2.0)):
        told(folder, "kc_house", kind, error)
    names = ["kc_house:assay", "kc_house:xgboost"]
    zeros = dict.fromkeys(names, 1.0)
    outcome = Outcome("research", 1, zeros, {}, zeros, 0.0, zeros, zeros, {name: {} for name in names})
    page, data = research.report(outcome)
    assert "lost: kc_house: price to xgboost\n" in f"{page}\n"
    (xgboost,) = [line for line in page.splitlines() if line.startswith("kc_house") and " xgboost " in line]
    (catboost,) = [line for line in page.splitlines() if line.startswith("kc_house") and " catboost " in line]
    assert "-100.0%" in xgboost
    assert "earlier run" not in xgboost
    assert "50.0%" in catboost
    assert "earlier run" in catboost
    assert len(data["research"]) == 2


@pytest.mark.parametrize("kind", ["xgboost", "catboost"])
def test_a_plain_booster_learns_again_from_all_rows_before_the_test_period(kind, tmp_path):
    random = np.random.default_rng(5)
    rows = 400
    part = np.repeat(["train", "tune", "calibrate", "test"], [200, 60, 60, 80])
    group = np.where(np.arange(rows) < 260, random.choice(["a", "b"], rows), random.choice(["a", "c"], rows))
    height = {"a": 0.0, "b": 5.0, "c": 20.0}
    actual = np.array([height[g] for g in group]) + 0.1 * random.random(rows)
    time = pl.datetime_range(dt.datetime(2024, 1, 1), dt.datetime(2025, 12, 31), "1d", eager=True, time_zone="UTC")
    frame = pl.DataFrame({"row_id": np.arange(rows), "time": time[:rows], "part": part, "actual": actual})
    frame.with_columns(group=pl.Series(group), noise=pl.Series(random.random(rows))).write_parquet(
        tmp_path / "y.parquet"
    )
    facts = {"target": "y", "classes": False, "log": False, "returns": False}
    facts |= {"inputs": ["group", "noise"], "categorical": ["group"]}
    (tmp_path / "y.json").write_text(json.dumps(facts), encoding="utf-8")
    found = _plain.predicted(tmp_path, kind, 3)
    assert found["row_id"].to_list() == list(range(320, 400))
    c = found.filter(pl.Series(group[320:]) == "c")
    assert c["told"].mean() > 12  # `c` is first seen after the tune period
