"""Produces report contents of invented runs, and reads pages: what the tests of the report share."""

import dataclasses
import datetime as dt
import re
import xml.etree.ElementTree as ET

from assay.evaluation import plots
from assay.evaluation.report import (
    DataFacts,
    Figures,
    Gate,
    ReportContent,
    Split,
    baseline_results,
    coverage_results,
)
from assay.evaluation.segments import segment_table
from assay.metrics import point_metrics

UTC = dt.UTC
LEVELS = (0.8, 0.9)


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
