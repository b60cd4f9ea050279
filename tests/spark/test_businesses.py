"""Consumes the YAML of five businesses on small data, checks that each gives what its page in README promises."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from assay import open_workspace
from assay.config import conf_root, load_run
from assay.runtime.progress import Reporter
from assay.runtime.spark_names import quoted
from assay.runtime.tracking import Tracking
from assay.synthetic import job as synthetic
from assay.synthetic.config import market_config

pytestmark = pytest.mark.spark

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
PAGES = README.partition("\n## Five businesses\n")[2].partition("\n## ")[0]
# What a run costs, and nothing else: fewer and larger steps, one fit, a small sample of what is explained.
CHEAP = ("engine.rounds=40", "engine.params.eta=0.2", "serving.learns_until=tune", "explain.rows=50")


def dataset(name: str) -> Path:
    return conf_root() / "datasets" / f"{name}.yml"


def answer(spark, folder: Path, title: str) -> pl.DataFrame:
    """What the question of a page comes to in a workspace."""
    page = PAGES.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    (query,) = re.findall(r"```sql\n(.*?);?\n```", page, flags=re.DOTALL)
    session = spark.newSession()
    for table in set(re.findall(r"(?:FROM|JOIN) (\w+)", query)):
        session.read.format("delta").load(str(folder / "lake" / table)).createTempView(quoted(table))
    return pl.from_arrow(session.sql(query).toArrow())


@pytest.fixture
def cut(tmp_path, real_data):
    """cut("name", condition) -> the setting that has a dataset's source be these rows of it alone."""

    def write(name: str, condition: pl.Expr) -> str:
        path = tmp_path / f"{name}.parquet"
        pl.read_parquet(real_data / f"{name}.parquet").filter(condition).write_parquet(path)
        return f"dataset.source.path={path}"

    return write


def test_auctions(spark, run_job, workspace, tmp_path):
    config = market_config({"rows": 6_000, "preset": "auctions", "bad_share": 0.01})
    made = synthetic.generate(
        config, tmp_path / "auctions", context=lambda: spark.sparkContext, reporter=Reporter(quiet=True)
    )
    source = f"dataset.source.path={made.folder / 'market'}"
    lenient = "training.min_business_accuracy=60"  # so few lots and rounds do not reach what the gate asks for
    result = run_job("pipeline", dataset("auctions"), overrides=[*CHEAP, source, lenient])
    assert result.status == "done", result.summary
    assert result.metrics["rows_quarantined"] == sum(rule["rows"] for rule in made.record["bad_rows"].values()) == 55
    assert result.metrics["test_rmse"] < 0.6 * result.metrics["best_baseline_rmse"]
    tables = open_workspace(workspace)
    rows = tables.table("features").sort("row_id")
    assert rows["YearMade"].min() > 1970  # a year of 1000 is none
    assert rows["MachineHoursCurrentMeter"].min() > 0
    assert 0.04 < rows["YearMade"].null_count() / rows.height < 0.08
    assert rows["calendar__year__minus__YearMade"].drop_nulls().is_between(0, 46).all()  # the age
    lots = answer(spark, workspace, "Heavy equipment at auctions")
    assert lots.height == 20
    assert (lots["sure_to_bring"] < lots["prediction"]).all()


@pytest.mark.realdata
def test_property_prices(spark, run_job, workspace, cut):
    """The figures of all sales are looked at in test_real_data; here a quarter of the zipcodes."""
    source = cut("kc_house", pl.col("zipcode") % 4 == 0)
    result = run_job("pipeline", dataset("kc_house"), overrides=[*CHEAP, source])
    assert result.status == "done", result.summary
    tables = open_workspace(workspace)
    told = tables.table("segment_metrics").filter(pl.col("target") == "price")
    kinds = set(told["segment_column"])
    assert {"zipcode", "worst slab", "decision at 80", "decision at 90", "price band", "month"} <= kinds
    houses = tables.table("explanations")
    assert houses["row_id"].n_unique() == 50
    assert "sqft_living" in set(houses["feature"])
    unsure = answer(spark, workspace, "Property prices")
    assert set(unsure["zipcode"]) == set(
        tables.table("predictions").join(tables.table("observations").select("row_id", "zipcode"), on="row_id")[
            "zipcode"
        ]
    )
    assert unsure["width_percent"].is_sorted(descending=True)
    assert unsure["houses"].sum() == tables.table("predictions").height


@pytest.mark.realdata
def test_customer_intelligence(spark, run_job, workspace, real_data, tmp_path):
    """A sixth of the customers: who buys is told better than by the best rule, and than by who bought last."""
    lines = pl.read_parquet(real_data / "online_retail.parquet")
    few = lines.filter(pl.col("CustomerID").cast(pl.Int64) % 6 == 0)
    nobody = lines.filter(pl.col("CustomerID").is_null()).head(5_000)
    pl.concat([few, nobody]).write_parquet(tmp_path / "online_retail.parquet")
    overrides = ["engine.rounds=60", "engine.params.eta=0.1", "conformal.levels=[0.8]", "explain.rows=50"]
    overrides.append(f"dataset.source.path={tmp_path / 'online_retail.parquet'}")
    result = run_job("pipeline", dataset("online_retail"), overrides=overrides)
    assert result.status == "done", result.summary
    assert result.metrics["rows_quarantined"] == 5_000
    assert result.metrics["segments"] >= 2
    assert result.metrics["test_log_loss"] < 0.97 * result.metrics["best_baseline_log_loss"]
    assert result.metrics["step.test_log_loss"] < result.metrics["step.best_baseline_log_loss"]
    tables = open_workspace(workspace)
    rows = tables.table("observations").select("row_id", "bought", "recency_days", "time")
    assert rows.filter(pl.col("time") == pl.col("time").max())["bought"].null_count() > 100  # who is to be called now
    told = tables.table("predictions")
    leads = told.filter(pl.col("target") == "bought")
    known = leads.join(rows.select("row_id", "bought", "recency_days"), on="row_id").drop_nulls("bought")
    by_model = roc_auc_score(known["bought"], known["prediction"])
    assert by_model > roc_auc_score(known["bought"], -known["recency_days"].fill_null(1_000)) + 0.03
    assert tables.table("segments").height == rows.height - rows.filter(pl.col("time") < pl.col("time").max()).height
    lifts = tables.table("segment_metrics").filter(pl.col("metric") == "top_tenth_lift")
    assert lifts.filter((pl.col("target") == "bought") & (pl.col("segment_column") == ""))["value"].item() > 1.5
    calls = answer(spark, workspace, "Customer intelligence")
    assert calls.height == 100
    assert calls["lead_score"].is_between(0, 1).all()
    assert calls["lead_score"].is_sorted(descending=True)
    assert set(calls["next_step"]) <= {"none", "repeat basket", "larger basket", "return"}
    assert calls["segment"].null_count() == 0
    assert calls["CustomerID"].n_unique() == 100


@pytest.mark.realdata
def test_daily_profit(spark, run_job, workspace, cut):
    source = cut("orange_juice_profit", pl.col("store").is_in([2, 5, 8]))
    quantiles = "engine.quantiles=[0.05, 0.1, 0.5, 0.9, 0.95]"
    options = [*CHEAP, source, quantiles, "training.force_production_quality=false", "conformal.score=cqr"]
    result = run_job("pipeline", dataset("orange_juice_profit"), overrides=options)
    assert result.status == "done", result.summary
    rows = open_workspace(workspace).table("predictions")
    assert set(rows["target"]) == {"profit", "logmove", "profit_up"}
    profit = rows.filter(pl.col("target") == "profit").drop_nulls("prediction")
    bounds = profit.select("lower_90", "lower_80", "upper_80", "upper_90").to_numpy()
    assert (bounds[:, 1:] >= bounds[:, :-1]).all()
    # Quantiles that are too wide are moved inwards, past the median of a row now and then.
    assert profit.select(pl.col("prediction").is_between("lower_80", "upper_80").mean()).item() > 0.98
    assert profit["width_80"].n_unique() > 0.5 * profit.height  # each row has quantiles of its own
    assert result.metrics["test_pinball"] > 0
    decisions = open_workspace(workspace).table("decisions")
    assert decisions["score"].is_between(0, 1).all()
    assert result.metrics["decision_top_realised"] > result.metrics["decision_realised"]
    chosen = answer(spark, workspace, "Daily profit")
    assert 0 < chosen.height <= 20
    assert (chosen["margin_at_least"] > 0).all()
    assert chosen["score"].is_sorted(descending=True)


@pytest.mark.realdata
def test_trading(spark, run_job, workspace, cut):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'assay[neural]'")
    names = ["AAPL", "ABT", "ADBE", "AMZN", "BA", "CAT", "CVX", "DIS", "GE", "JPM", "KO", "XOM"]
    source = cut("sp500_daily", pl.col("Name").is_in(names) & (pl.col("Date") >= "2018-07-01"))
    members = "ensemble.members={xgboost: {}, gru: {params: {lookback: 20, epochs: 1, hidden: 8}}}"
    options = [*CHEAP, source, members, "ensemble.folds=1", "monitoring.window_days=28"]
    result = run_job("pipeline", dataset("sp500_trading"), overrides=options)
    assert result.status == "done", result.summary
    tracking = Tracking(load_run(dataset=dataset("sp500_trading"), workspace=workspace))
    (training,) = set(open_workspace(workspace).table("training_metrics")["run_id"])
    with tracking.download(training, "ensemble.json") as path:
        record = json.loads(path.read_text(encoding="utf-8"))
    sharpe = next(c for c in record["candidates"] if c["name"] == "dynamic_sharpe")
    assert [c["name"] for c in record["candidates"]] == ["xgboost", "gru", "dynamic_sharpe"]
    assert sum(sharpe["weights"]) == pytest.approx(1)
    assert min(sharpe["weights"]) >= 0
    with tracking.download(training, "preparation.json") as path:
        components = json.loads(path.read_text(encoding="utf-8"))["components_variance"]
    assert 5 < len(components) < 150
    assert 0.3 < result.metrics["win_rate"] < 0.7
    assert "sharpe" in result.metrics
    columns = open_workspace(workspace).table("features").columns
    assert any("rsi" in name for name in columns)
    assert run_job("monitor", dataset("sp500_trading"), overrides=options).status == "done"
    days = answer(spark, workspace, "Trading")
    assert days["win_rate"].is_between(0.2, 0.8).all()
    assert "champion" in set(days["role"])
    # Nobody foresees 99 of 100 changes: the champion is to be pruned. (Learning again is for test_retrain_job.)
    strict = [*options, "retraining.prune_win_rate=0.99", "retraining.schedule_days=0"]
    assert run_job("retrain", dataset("sp500_trading"), overrides=strict).metrics["retrain_done"] == 0
    pruned = open_workspace(workspace).table("underperformers")
    assert pruned["role"].to_list() == ["champion"]
    assert 0.2 < pruned["win_rate"].item() < 0.8
