"""A champion and a shadow in one pass over a table on disk, its tasks run one after the other in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import types

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from assay.config.profile import ProfileConfig, ScoringConfig
from assay.conformal.calibration import Calibration
from assay.conformal.class_calibration import ClassCalibration, of_class
from assay.conformal.pace import Pace
from assay.errors import DataError
from assay.model.registry import Calibrated, Champion
from assay.runtime.arrow_plane import ArrowPlane
from assay.runtime.plane import Commit, Output
from assay.runtime.tables import CONFORMITY_SCORES
from assay.scoring.job import Scoring

ROWS = 300
FACTS = {
    "split": {"test": {"start": "1970-02-01T00:00:00+00:00", "end": None}},
    "learned_until": "1970-03-01T00:00:00+00:00",
}


class Here(ArrowPlane):
    slots = 2

    def run_tasks(self, work, function):
        return [function(index, item) for index, item in enumerate(work)]


@pytest.fixture
def champions(price_model):
    """Two versions, whose calibrations have other levels; what they have learned from is scored by others."""

    def version(found, number):
        served, tested = (dataclasses.replace(found.model, facts={**FACTS, "which": which}) for which in "st")
        told = found.calibration, found.calibration_version
        return Champion(served, *told, number=number, run_id="", tested=Calibrated(tested, *told))

    return version(price_model(), "2"), version(price_model(levels=(0.5, 0.8)), "1")


def follows(found, pace):
    """The version with a calibration that follows its misses."""

    def told(one):
        calibration = dataclasses.replace(Calibration.from_dict(one.calibration), pace=pace)
        return {"calibration": calibration.to_dict(), "calibration_version": calibration.version}

    return dataclasses.replace(found, **told(found), tested=dataclasses.replace(found.tested, **told(found.tested)))


def put_scores(plane, version, scores, target="price", segments=("",)):
    """Conformity scores of a calibration, a row a day from the new year on; those before it are replaced."""
    schema = CONFORMITY_SCORES.schema()
    days = (np.datetime64("1970-01-01") + np.arange(len(scores))).astype("datetime64[us]")
    told = {"period": "test", "model_version": "m", "calibration_version": version, "target": target}
    columns = {name: pa.repeat(text, len(scores)) for name, text in told.items()}
    columns["segment"] = [segments[row % len(segments)] for row in range(len(scores))]
    columns |= {"row_id": np.arange(len(scores)), "time": pa.array(days, pa.timestamp("us", "UTC"))}
    columns |= {"scores": [[score] for score in scores]}
    rows = pa.table({field.name: columns[field.name] for field in schema}, schema=schema)
    commit = Commit(-1, "calibrate", target, version, {"calibration": version})
    output = Output(CONFORMITY_SCORES, schema, commit, owns={"target": target})
    plane.rows_of(CONFORMITY_SCORES, schema, rows).write([output])


@pytest.fixture
def score(market, tmp_path):
    """score(champion, shadows, scores) -> rows of both tables, and what the job says.

    scores: version of a calibration -> the conformity scores that it leaves on record, one after the other.
    """
    batch, days = market(ROWS, seed=5), np.datetime64("1970-01-01") + np.arange(ROWS)
    keys = {"row_id": np.arange(ROWS), "time": pa.array(days.astype("datetime64[us]"), pa.timestamp("us", "UTC"))}
    columns = {name: batch.column(name) for name in batch.schema.names}
    months = [str(month) for month in days.astype("datetime64[M]")]
    write_deltalake(tmp_path / "features", pa.table({**keys, **columns, "month": months}), partition_by=["month"])
    plane = Here(lambda: None, tmp_path)
    targets = [types.SimpleNamespace(name=name, decides=name == "sold") for name in ("price", "sold")]
    dataset = types.SimpleNamespace(entity=("city",), targets=targets[:1])
    context = types.SimpleNamespace(
        config=types.SimpleNamespace(profile=ProfileConfig(scoring=ScoringConfig(64)), where=(), dataset=dataset),
        plane=plane,
        tracking=types.SimpleNamespace(json=lambda *_: None),
        reporter=types.SimpleNamespace(step=lambda _: contextlib.nullcontext()),
        commit=lambda job, slot, identity, **details: Commit(-1, job, slot, identity, details),
    )

    def table(name):
        frame = pl.from_arrow(DeltaTable(tmp_path / name).to_pyarrow_table())
        return frame.select(sorted(frame.columns)).sort("row_id")

    def run(champion, shadows=(), scores=None, version=0, target="price", segments=("",)):
        dataset.targets = [one for one in targets if one.name == target]
        for found, known in (scores or {}).items():
            put_scores(plane, found, known, target, segments)
        done = Scoring(context, dataset.targets[0], version, champion, list(shadows)).run("one")
        return (
            table("predictions"),
            table("shadow_predictions") if (tmp_path / "shadow_predictions").exists() else None,
            done,
        )

    return run


def test_a_shadow_says_apart_what_it_would_say_as_the_champion(score, champions):
    champion, rival = champions
    alone, none, _ = score(champion)
    assert none is None
    assert alone["row_id"].to_list() == list(range(31, ROWS))
    predictions, shadows, done = score(champion, [rival])
    assert predictions.equals(alone)
    assert set(shadows["shadow"]) == {"1"}
    assert {"lower_50", "lower_80"} <= set(shadows.columns)
    assert "lower_50" not in predictions.columns
    assert done.metrics["shadow_1.quality_ok"] == (shadows["quality"] == "ok").sum()
    instead, gone, _ = score(rival)
    assert shadows.drop("shadow").equals(instead)
    assert gone.height == 0
    again = score(champion, [rival])
    assert again[0].equals(alone)
    assert again[1].equals(shadows)


def test_rows_that_a_shadow_learned_from_are_those_of_its_tested_model(score, champions):
    champion, rival = champions
    _, shadows, _ = score(champion, [rival])
    by = dict(shadows.group_by("model_version").agg(pl.col("time").min()).iter_rows())
    assert rival.tested is not None
    assert str(by[rival.tested.model.version])[:10] == "1970-02-01"
    assert str(by[rival.model.version])[:10] == "1970-03-02"


def test_a_shadow_follows_its_own_misses_as_it_would_as_the_champion(score, champions):
    champion, rival = (follows(one, Pace(7.0, 0.1, 5.0)) for one in champions)
    random = np.random.default_rng(3)
    scores = {one.calibration_version: abs(random.normal(0, 0.05, 60)) for one in (rival, champion)}
    alone, *_ = score(champion, scores=scores)
    predictions, shadows, done = score(champion, [rival])
    assert predictions.equals(alone)
    assert (np.unique(np.log(predictions["upper_80"] / predictions["lower_80"]).round(9)).size) > 20
    assert shadows["quality_reasons"].explode().drop_nulls().is_in(["not_followed"]).sum() == 0
    instead, *_ = score(rival)
    assert shadows.drop("shadow").equals(instead)
    assert not any("no longer on record" in line for line in done.summary)


def test_a_shadow_whose_scores_are_gone_says_so_in_every_row(score, champions):
    champion, rival = (follows(one, Pace(7.0, 0.1, 5.0)) for one in champions)
    _, shadows, done = score(champion, [rival], {champion.calibration_version: np.linspace(0.01, 0.1, 60)})
    assert all("not_followed" in reasons for reasons in shadows["quality_reasons"].to_list())
    assert set(shadows["quality"]) <= {"warn", "bad"}
    widths = np.log(shadows["upper_80"] / shadows["lower_80"]).round(9)
    assert widths.n_unique() <= 3  # as fitted: one of each segment
    assert any("intervals of version 1 are those it was fitted with" in line for line in done.summary)
    with pytest.raises(DataError, match=r"conformity_scores has none of price .* run `calibrate`"):
        score(rival)


def test_outcomes_that_cannot_be_priced_move_no_interval_and_are_told(score, champions, tmp_path):
    """A row whose outcome is no price: it is scored like any other, and its miss is nobody's."""
    (champion, _) = (follows(one, Pace(7.0, 0.1, 5.0)) for one in champions)
    scores = {champion.calibration_version: np.linspace(0.01, 0.1, 60)}
    before, _, done = score(champion, scores=scores)
    assert "unpriced_outcomes" not in done.metrics
    odd = 299  # the newest row: what it would have told is known after all others
    features = pl.from_arrow(DeltaTable(tmp_path / "features").to_pyarrow_table())
    price = pl.when(pl.col("row_id") == odd).then(-5.0).otherwise(pl.col("price"))
    write_deltalake(tmp_path / "features", features.with_columns(price=price).to_arrow(), mode="overwrite")
    after, _, done = score(champion, version=1)
    assert after.drop("price", strict=False).equals(before)
    assert done.metrics["unpriced_outcomes"] == 1
    assert any("1 rows with an outcome since version 2 was calibrated could not be priced" in s for s in done.summary)


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_of_classes_follow_their_misses_through_the_job(score, sold, tmp_path, by_class):
    """Outcomes come in after the scores on record, by class where sets are; a second run says the same of all."""
    calibration = ClassCalibration.from_dict(sold.calibration)
    each = tuple(Calibration.from_dict(sold.calibration) for _ in "ab") if by_class else ()
    calibration = dataclasses.replace(calibration, pace=Pace(7.0, 0.2, 5.0), by_class=each)
    told = calibration.to_dict(), calibration.version
    served, tested = (dataclasses.replace(sold.model, facts={**FACTS, "which": which}) for which in "st")
    champion = Champion(served, *told, number="1", run_id="", tested=Calibrated(tested, *told))
    segments = [of_class(own, f"city={city}") for own in ("sold=no", "sold=yes") for city in ("Austin", "Waco")]
    segments = segments if by_class else ["city=Austin", "city=Waco"]
    given = {"target": "sold", "segments": segments}
    rows, _, done = score(champion, scores={told[1]: np.linspace(0.05, 0.6, 60)}, **given)
    again, *_ = score(champion, **given)
    assert again.equals(rows)
    assert done.metrics["outcomes_since"] == ROWS - 60
    states = pl.from_arrow(DeltaTable(tmp_path / "calibrations").to_pyarrow_table())
    assert set(states["kind"]) == {"adaptive"}
    assert {"sold=no", "sold=yes|city=Waco"} <= set(states["segment"]) or not by_class
    assert states["miscoverage"].n_unique() > 20
    (probabilities,) = (np.array(rows.sort("row_id")["probabilities"].to_list()),)
    wide = states.filter(pl.col("level") == 0.8).sort("valid_from")
    for row, p in list(zip(rows.sort("row_id").to_dicts(), probabilities, strict=True))[::17]:
        held = []
        for code, name in enumerate(("no", "yes")):
            label = f"city={row['city']}"
            now = wide.filter(
                (pl.col("segment") == (of_class(f"sold={name}", label) if by_class else label))
                & (pl.col("valid_from") <= row["time"])
            )
            held += [name] if 1 - p[code] <= now["quantile"][-1] else []
        assert row["set_80"] == held
