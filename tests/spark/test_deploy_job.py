"""Consumes a market of days, checks that challengers come to serve, and are taken back, as their deployments say."""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import types

import numpy as np
import pandas as pd
import polars as pl
import pytest
from deltalake import DeltaTable

from assay.config import load_run
from assay.errors import DataError
from assay.model.versions import CHALLENGER, CHAMPION, PREVIOUS
from assay.pipeline import deploy
from assay.runtime.job import JobContext
from assay.runtime.progress import Reporter
from assay.runtime.session import SparkSettings
from assay.runtime.tracking import Tracking
from assay.serving.job import ServeOptions, save
from assay.serving.pricer import load_pricer
from assay.serving.request import Limits

pytestmark = pytest.mark.spark

FIRST, DAYS, SHOPS = dt.date(2023, 1, 1), 260, 30
SETTINGS = (
    *("engine.rounds=60", "engine.early_stopping_rounds=0", "conformal.adaptive=false"),
    *("deployment.steps=[0.3]", "deployment.bake_days=6", "deployment.watch_days=5", "experiments.min_rows=100"),
)
CANARY = "deployment.strategy=canary"
POOR = ("engine.rounds=1", "conformal.adaptive=true")


def date(day):
    return f"{FIRST + dt.timedelta(days=day)}"


def write_market(folder):
    """Prices that two columns explain, each shop on each day."""
    rng = np.random.default_rng(5)
    rows = [(f"s{shop}", FIRST + dt.timedelta(days=day)) for day in range(DAYS) for shop in range(SHOPS)]
    frame = pd.DataFrame(rows, columns=["shop", "day"])
    frame["size"], frame["age"] = rng.uniform(1, 9, len(frame)), rng.uniform(0, 30, len(frame))
    frame["price"] = 100 + 20 * frame["size"] - frame["age"] + rng.normal(0, 4, len(frame))
    folder.mkdir(parents=True)
    frame.to_csv(folder / "market.csv", index=False)
    return {
        "name": "market",
        "source": {"path": str(folder / "market.csv")},
        "time": {"column": "day"},
        "entity": ["shop"],
        "targets": [{"name": "price"}],
        "columns": {"categorical": ["shop"], "numeric": ["size", "age"]},
        "features": {"lags": [1], "windows_days": [30]},
    }


@pytest.fixture(scope="module")
def lab(run_in, tmp_path_factory):
    """A champion of day 200, and what is needed to go on from there."""
    folder = tmp_path_factory.mktemp("deploying") / "workspace"
    dataset = write_market(folder.parent / "source")

    def run(job, day, *settings):
        found = run_in(folder, job, dataset, date=date(day), overrides=(*SETTINGS, *settings), profile="development")
        assert found.status != "refused", found.summary
        return found

    def order(day, *settings, **told):
        from assay.deployment.job import Order

        config = load_run(
            dataset=folder / "dataset.yml",
            workspace=folder,
            date=date(day),
            overrides=(*SETTINGS, *settings),
            profile="development",
        )
        context = JobContext(config, SparkSettings(), Reporter(quiet=True))
        try:
            return deploy(context, Order(**told))
        finally:
            context.close()

    def until(day, *settings):
        for job in ("build_features", "score"):
            run(job, day, *settings)

    def serving():
        """What `serve` is told."""
        return ServeOptions(str(folder / "dataset.yml"), "development", str(folder), SETTINGS, refresh_minutes=0)

    def table(name):
        return pl.from_arrow(DeltaTable(folder / "lake" / name).to_pyarrow_table())

    def aliases():
        config = load_run(dataset=folder / "dataset.yml", workspace=folder)
        found = Tracking(config).client.get_registered_model("market.price").aliases
        return {alias: str(number) for alias, number in found.items()}

    def log():
        return table("deployments").sort("made_at", "number").select("deployment_id", "state", "share").rows()

    run("ingest", 200)
    until_first = run("build_features", 200)
    assert until_first.status == "done"
    run("train", 200)
    run("score", 200)
    return types.SimpleNamespace(
        run=run, order=order, until=until, serving=serving, table=table, aliases=aliases, log=log, folder=folder
    )


@pytest.fixture(scope="module")
def poor(lab):
    """A poor challenger, deployed as a canary on day 200, and ten days that both models scored.

    Its intervals follow their misses, those of the champion do not. A server runs meanwhile.
    """
    served = lab.serving().served()
    served.load()
    servers = [(served.pricer, served.about())]
    lab.run("train", 200, CANARY, *POOR)
    named = lab.aliases()
    planned = lab.run("deploy", 200, CANARY)
    lab.run("ingest", 210)
    lab.until(210)
    kept = {name: lab.table(name) for name in ("predictions", "shadow_predictions")}
    raw = raw_rows(lab)
    served.load()
    servers.append((served.pricer, served.about()))
    save(lab.serving(), lab.folder / "saved")
    dry = lab.order(210, dry=True)
    log = lab.log()
    ended = lab.run("deploy", 210)
    served.load()
    servers.append((served.pricer, served.about()))
    served.stop()
    return types.SimpleNamespace(
        named=named, planned=planned, kept=kept, raw=raw, servers=servers, dry=dry, log=log, ended=ended
    )


def test_a_newly_trained_model_is_a_challenger_and_the_champion_serves_on(lab, poor):
    assert poor.named == {CHAMPION: "1", CHALLENGER: "2"}
    assert [row[1:] for row in poor.log] == [("planned", 0.0), ("split", 0.3)]


def test_each_row_has_both_predictions_and_an_entity_one_arm(lab, poor):
    served, other = (poor.kept[name] for name in ("predictions", "shadow_predictions"))
    start = dt.datetime(2023, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(
        days=201
    )  # rows of day 200 were served before
    before, after = (served.filter(condition) for condition in (pl.col("time") < start, pl.col("time") >= start))
    assert before.height
    assert after.height == 10 * SHOPS
    assert served["row_id"].is_unique().all()
    assert other.select("row_id", "shadow").is_unique().all()
    (champion,) = before["model_version"].unique().to_list()[-1:]
    arms = after.group_by("shop").agg(
        pl.col("model_version").n_unique().alias("models"), pl.col("model_version").first()
    )
    assert set(arms["models"]) == {1}
    challengers = arms.filter(pl.col("model_version") != champion)["shop"].to_list()
    assert len(challengers) == 9  # 30 % of 30, and not what a hash happens to give
    evidence = json.loads(lab.table("deployments").filter(pl.col("state") == "split").sort("made_at")["evidence"][0])
    assert (evidence["its_entities"], evidence["entities"]) == (9, SHOPS)
    both = after.join(other, on="row_id", suffix="_other")
    assert both.height == after.height
    assert (both["model_version"] != both["model_version_other"]).all()
    assert set(both.filter(pl.col("shop").is_in(challengers))["shadow"]) == {"1"}
    assert set(both.filter(~pl.col("shop").is_in(challengers))["shadow"]) == {"2"}


def raw_rows(lab):
    """Rows of the source as it has them, by their `row_id`."""
    raw = pl.read_csv(lab.folder.parent / "source" / "market.csv", infer_schema=False).drop("price")
    raw = raw.with_row_index("source_row", offset=1).cast({"source_row": pl.Int64})
    ids = lab.table("observations").select("row_id", pl.col("source_row").cast(pl.Int64))
    return ids.join(raw, on="source_row").drop("source_row")


def asked(poor):
    """Predictions in an order of no meaning, and the raw rows that they are of."""
    predictions = poor.kept["predictions"].sample(fraction=1.0, shuffle=True, seed=1)
    rows = predictions.select("row_id").join(poor.raw, on="row_id", how="left", maintain_order="left")
    return predictions.drop("row_id", "time", "month", "shop"), rows.drop("row_id")


def plain(row):
    """A row of `predictions` as JSON has it."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def test_serving_gives_each_row_the_numbers_of_the_model_that_serves_it_in_batch(lab, poor):
    predictions, rows = asked(poor)
    _, (pricer, about), _ = poor.servers
    answers = pricer.price(rows.to_dicts(), []).answers
    assert [answer["row"] for answer in answers] == [*range(rows.height)]
    wanted = [plain(row) for row in predictions.iter_rows(named=True)]
    found = [{name: answer.get(name) for name in row} for answer, row in zip(answers, wanted, strict=True)]
    assert found == wanted  # in every bit
    told = about["targets"]["price"]
    its = told["split"]["challenger"]
    assert (told["registry_version"], its["registry_version"]) == ("1", "2")
    assert (told["split"]["deployment"], told["split"]["share"]) == ("price-1-to-2", 0.3)
    assert told["split"]["since"][:19] == f"{date(200)}T00:00:00"
    of_challenger = predictions.filter(pl.col("model_version") == its["model_version"])
    assert 50 < of_challenger.height < 200  # of 300
    assert set(of_challenger["calibration_version"]) == {its["calibration_version"]}
    scores = pricer.scores["price"]
    following = [one.model.scorer.following is not None for one in (scores, scores.split.challenger)]
    assert following == [False, True]
    assert of_challenger["width_80"].round(6).n_unique() > 1


def test_a_saved_server_splits_rows_as_batch_did_under_mlflow_too(lab, poor):
    import mlflow

    predictions, rows = asked(poor)
    found = mlflow.pyfunc.load_model(str(lab.folder / "saved")).predict(rows.to_pandas())
    for name in ("prediction", "lower_80", "upper_90", "quality", "model_version", "calibration_version"):
        assert found[name].to_list() == predictions[name].to_list()


def test_a_server_that_runs_learns_of_moves(poor):
    (before, first), (during, _), (after, last) = poor.servers
    assert before is not during is not after
    assert first["deployments_version"] is None
    for about in (first, last):
        assert "split" not in about["targets"]["price"]
    _, rows = asked(poor)
    served = {answer["model_version"] for answer in after.price(rows.to_dicts(), []).answers}
    assert last["targets"]["price"]["model_version"] in served
    assert during.about["targets"]["price"]["split"]["challenger"]["model_version"] not in served


def test_a_challenger_that_does_harm_is_taken_back_with_its_figures(lab, poor):
    name, state, share = lab.log()[2]
    assert (name, state, share) == ("price-1-to-2", "rolled_back", 0.0)
    row = lab.table("deployments").filter(pl.col("state") == "rolled_back").sort("made_at").row(0, named=True)
    assert "does harm" in row["why"]
    assert row["by"] == "assay"
    evidence = json.loads(row["evidence"])
    outcomes = lab.table("features").select("row_id", "price")
    served, other = (poor.kept[name].join(outcomes, on="row_id") for name in ("predictions", "shadow_predictions"))
    rows = served.join(other, on="row_id", suffix="_other").filter(pl.col("shadow").is_not_null())
    rows = rows.filter(pl.col("time") >= pl.datetime(2023, 7, 21, time_zone="UTC"), pl.col("price").is_not_null())
    of_challenger = pl.when(pl.col("shadow") == "2").then(pl.col("prediction_other")).otherwise(pl.col("prediction"))
    rows = rows.filter(pl.col("time") < pl.datetime(2023, 7, 30, time_zone="UTC"))  # the last day is not over
    assert evidence["rows"] == rows.height
    wanted = rows.select((of_challenger - pl.col("price")).abs().mean()).item()
    assert evidence["challenger_loss"] == pytest.approx(wanted)
    assert lab.table("experiments").height >= 1


def test_a_dry_run_says_so_and_changes_nothing(poor):
    assert any("rolled_back" in line for line in poor.dry.summary)
    assert poor.dry.summary[-1] == "dry run: nothing was done"
    assert [row[1] for row in poor.log] == ["planned", "split"]


@pytest.fixture(scope="module")
def good(lab, poor):
    """A challenger as good as the champion, from its canary to its end, looked at every few days."""
    assert lab.aliases() == {CHAMPION: "1"}
    lab.run("train", 210, CANARY, "engine.seed=99")
    assert lab.aliases() == {CHAMPION: "1", CHALLENGER: "3"}
    found = {}
    for day in (210, 214, 216, 219, 222):
        lab.run("ingest", day)
        lab.until(day, CANARY)
        lab.run("deploy", day, CANARY)
        again = lab.run("deploy", day, CANARY)
        assert again.metrics["moves"] == 0
        found[day] = (lab.log()[-1][1:], lab.aliases())
    return found


def test_a_good_challenger_serves_a_share_then_all_and_then_for_good(good):
    assert good[210] == (("split", 0.3), {CHAMPION: "1", CHALLENGER: "3"})
    assert good[214][0] == ("split", 0.3)
    assert good[216] == (("watched", 1.0), {CHAMPION: "3", PREVIOUS: "1"})
    assert good[219][0] == ("watched", 1.0)
    assert good[222] == (("completed", 1.0), {CHAMPION: "3", PREVIOUS: "1"})


def test_while_it_is_watched_the_champion_before_scores_beside_it(lab, good):
    shadows = lab.table("shadow_predictions")
    assert set(shadows["shadow"]) == {"1"}


def test_one_command_goes_back_to_the_champion_before(lab, good):
    result = lab.order(222, back=True, by="ann", why="prices look odd")
    assert lab.aliases() == {CHAMPION: "1", PREVIOUS: "3"}
    last = lab.table("deployments").sort("made_at", "number").row(-1, named=True)
    assert (last["state"], last["by"], last["why"]) == ("completed", "ann", "prices look odd")
    assert any("version 1 in place of 3" in line for line in result.summary)
    assert lab.run("deploy", 222).metrics["moves"] == 0


def test_orders_that_cannot_be_followed_are_refused(lab, good):
    with pytest.raises(DataError, match="nothing to abort"):
        lab.order(222, abort=True)
    with pytest.raises(DataError, match="--challenger 9 is no version"):
        lab.order(222, challenger="9")


def test_a_challenger_with_a_changed_file_is_rejected_and_stops_no_scoring_and_no_server(lab, good, caplog):
    lab.run("train", 222, CANARY, "engine.seed=3")
    lab.run("deploy", 222, CANARY)
    assert lab.log()[-1][1:] == ("split", 0.3)
    config = load_run(dataset=lab.folder / "dataset.yml", workspace=lab.folder)
    number = lab.aliases()[CHALLENGER]
    source = Tracking(config).client.get_model_version("market.price", number).source
    folder = lab.folder / "mlartifacts"
    (file,) = (one for one in folder.rglob("bundle/booster.ubj") if source.rpartition("/")[2] in str(one))
    content = file.read_bytes()
    file.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    result = lab.run("score", 222, "scoring.batch_rows=1000")
    assert set(lab.table("predictions").filter(pl.col("prediction").is_null())["row_id"]) == set()
    assert "shadow_predictions" in result.tables
    logging.getLogger("assay.serving").addHandler(caplog.handler)  # jobs take pytest's own from the root
    try:
        pricer = load_pricer(lab.serving().context(), Limits())
    finally:
        logging.getLogger("assay.serving").removeHandler(caplog.handler)
    (told,) = caplog.messages
    assert "refusing to load it: the champion serves everybody; run the job deploy" in told
    pricer.check()
    assert "split" not in pricer.about["targets"]["price"]
    lab.run("deploy", 222)
    assert lab.log()[-1][1] == "rolled_back"
    why = lab.table("deployments").sort("made_at", "number").row(-1, named=True)["why"]
    assert "its files are not those that were registered" in why
    assert CHALLENGER not in lab.aliases()
    file.write_bytes(content)


def test_a_champion_promoted_by_hand_ends_the_deployment(lab, good):
    lab.order(222, CANARY, challenger="3", by="ann")
    assert lab.log()[-1][1] == "split"
    client = Tracking(load_run(dataset=lab.folder / "dataset.yml", workspace=lab.folder)).client
    client.set_registered_model_alias("market.price", CHAMPION, "2")
    lab.run("deploy", 222)
    assert lab.log()[-1][1] == "aborted"
    client.set_registered_model_alias("market.price", CHAMPION, "1")
