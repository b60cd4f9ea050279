"""Produces evaluated rows and report contents of invented runs, and reads pages: what the tests of pages share."""

import dataclasses
import datetime as dt
import re
import xml.etree.ElementTree as ET

import numpy as np
import polars as pl
import pyarrow as pa

from assay.config.evaluation import EvaluationConfig
from assay.config.target import TargetConfig
from assay.evaluation import plots, story_plots
from assay.evaluation.evaluated import CLUSTER, FACTOR, MONTH, PRICE_BAND, JudgeRows
from assay.evaluation.parts import TallySpec
from assay.evaluation.past import Columns, looked_back
from assay.evaluation.report import (
    DataFacts,
    Figures,
    Gate,
    ReportContent,
    Split,
    baseline_results,
    coverage_results,
)
from assay.evaluation.risk import RankedDecisions
from assay.evaluation.row_figures import REFERENCE
from assay.evaluation.segments import segment_table, table_of
from assay.evaluation.story import rules_for, told
from assay.evaluation.tally import Tally
from assay.metrics import point_metrics

UTC = dt.timezone.utc
LEVELS = (0.8, 0.9)


def market(entities=12, times=24, noise=0.06, name="city", seed=5):
    """`times` months of `entities` prices with log-normal errors and intervals that keep their promise."""
    random = np.random.default_rng(seed)
    months = [dt.datetime(2012 + m // 12, m % 12 + 1, 1, tzinfo=dt.timezone.utc) for m in range(times)]
    level = np.repeat(np.exp(random.normal(12, 0.3, entities)), times)
    prediction = level * np.tile(1 + 0.003 * np.arange(times), entities)
    frame = pl.DataFrame(
        {
            "time": pl.Series(months * entities, dtype=pl.Datetime("us", "UTC")),
            "actual": prediction * np.exp(random.normal(0, noise, entities * times)),
            "prediction": prediction,
            "baseline_global_median": np.full(entities * times, float(np.median(level))),
            "baseline_group_median": level,
            name: [f"{name} {place:04d}" for place in range(entities) for _ in range(times)],
        }
    )
    for label, z in (("80", 1.2816), ("90", 1.6449)):
        frame = frame.with_columns(
            (pl.col("prediction") * np.exp(-z * noise)).alias(f"lower_{label}"),
            (pl.col("prediction") * np.exp(z * noise)).alias(f"upper_{label}"),
        )
    return frame


def content_of(rows, columns=("city",), levels=LEVELS, figures=True, **changes):
    table = segment_table(rows, columns, levels)
    metrics = point_metrics(rows["actual"].to_numpy(), rows["prediction"].to_numpy())
    drawn = Figures(
        predicted=plots.predicted_against_actual(rows, "price", "USD"),
        residuals=plots.residuals_over_time(rows, "price", "USD"),
        coverage=plots.coverage_per_segment(table, levels) if levels else None,
        importance=plots.importance(["lag_1", "mean_90"], [3.0, 1.0]),
        fan=plots.fan(rows, columns[0], levels) if columns and levels else None,
    )
    content = ReportContent(
        title="Invented market",
        description="Prices of things that do not exist",
        target="price",
        unit="USD",
        created=dt.datetime(2016, 2, 3, tzinfo=UTC),
        rows=rows.height,
        start=rows["time"].min(),
        end=rows["time"].max(),
        metrics=metrics,
        baselines=baseline_results(rows),
        coverage=coverage_results(rows, levels),
        segments=table,
        figures=drawn if figures else Figures(),
        data=DataFacts(1010, 1000, {"price: not a number": 10}),
        splits=[
            Split("train", dt.datetime(2008, 1, 1, tzinfo=UTC), dt.datetime(2010, 12, 1, tzinfo=UTC), 700),
            Split("test", dt.datetime(2012, 1, 1, tzinfo=UTC), dt.datetime(2013, 12, 1, tzinfo=UTC), rows.height),
        ],
        run={"dataset": "market", "config_hash": "0123abcd" * 8, "git_revision": "deadbeef"},
        tables={"observations": 3},
        gates=[Gate("R²", metrics["r2"], 0.75, metrics["r2"] >= 0.75), Gate("Within 20 %", 99.1, 70.0, True, "%")],
    )
    return dataclasses.replace(content, **changes)


def story_of(rows, columns=("city",), levels=LEVELS, **settings):
    """Content with the whole story, made as the job makes it. rows need row_id; a factor is called `size`."""
    config = EvaluationConfig(**settings)
    random = np.random.default_rng(2)
    past = pa.table(
        {
            "hash": np.arange(2000),
            "prediction": random.choice(rows["prediction"].to_numpy(), 2000),
            "outcome": random.choice(rows["actual"].to_numpy(), 2000),
            "of size": np.concatenate([random.normal(0, 1, 1200), random.normal(9, 1, 800)]),
        }
    )
    seen = looked_back(
        past, Columns(columns, (), ("size",), ("size",)), config, TargetConfig("price", transform="log"), "lag", seed=1
    )
    rules = rules_for(config, levels, seen)
    rivals = tuple(name for name in rows.columns if name.startswith("baseline_"))
    segments = (*columns, PRICE_BAND, CLUSTER, MONTH, *(rule.name for rule in rules))
    bounds = [name for name in rows.columns if name.startswith(("lower_", "upper_"))]
    kept = ("time", "actual", "prediction", *bounds, *segments, f"{FACTOR}size", *rivals)
    spec = TallySpec(tuple(levels), segments, rivals, kept)
    rows = rows.with_columns(
        pl.Series(f"{FACTOR}size", random.uniform(-1, 10, rows.height)),
        pl.lit("1: size low").alias(CLUSTER),
        (pl.col("actual") * 0.97).alias(REFERENCE),
    )
    kernel = JudgeRows(spec, seen.bands, rules)
    tally = Tally.unpacked(pa.Table.from_batches(kernel(iter(rows.to_arrow().to_batches()))), spec)
    table = table_of(tally, spec)
    ranked = RankedDecisions(["price", "stock"], 900, 0.71, 0.5, [0.9 - k / 12 for k in range(10)])
    story, lines = told(
        tally,
        table,
        seen,
        config,
        levels,
        columns=columns,
        dated=True,
        seed=1,
        before_why="there is no champion before this one",
        decisions=ranked,
    )
    content = content_of(rows, columns, levels, story=story, segments=pl.concat([table, lines]))
    figures = dataclasses.replace(
        content.figures,
        rivals=story_plots.rivals(story.rivals),
        over_time=story_plots.coverage_over_time(story.over_time),
        kept=story_plots.rows_kept(story.abstentions),
    )
    return dataclasses.replace(content, figures=figures)


def parse(page):
    """The page as XML: stricter than any browser."""
    assert page.startswith("<!DOCTYPE html>")
    return ET.fromstring(page)


def text_of(page):
    root = parse(page)
    body = root.find("body")
    for script in root.iter("script"):
        script.text = ""
    return re.sub(r"\s+", " ", "".join(body.itertext()).replace("\u202f", " "))
