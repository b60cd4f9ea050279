"""Produces rows of classes and what a report says of them: what the tests of such reports share."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl

from assay.class_metrics import class_metrics
from assay.evaluation import class_plots
from assay.evaluation.class_content import ClassContent
from assay.evaluation.class_coverage import set_results
from assay.evaluation.class_segments import class_segment_table, confusion_of, reliability_of
from assay.evaluation.class_tally import ClassSpec, ClassTally, probabilities_of
from assay.evaluation.content import Gate
from assay.evaluation.data_facts import data_facts

THREE, TWO = ("bad", "fine", "good & <new>"), ("no", "yes")
LEVELS = [0.8, 0.9]


def rows_of(classes, count=600, seed=0):
    """Rows whose probabilities are the truth, and sets of what they are surest of."""
    random = np.random.default_rng(seed)
    each = random.dirichlet(np.ones(len(classes)), count)
    actual = np.array([random.choice(len(classes), p=p) for p in each])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    return pl.DataFrame(
        {
            "time": [start + dt.timedelta(days=day) for day in range(count)],
            "actual": actual.astype(float),
            "probabilities": each.tolist(),
            **{
                f"set_{label}": [[c for c, q in zip(classes, p, strict=True) if q >= least] for p in each]
                for label, least in (("80", 0.25), ("90", 0.1))
            },
            "town": [None if n % 10 == 0 else f"t{n % 3}" for n in range(count)],
            "baseline_global_rate": np.full(count, np.log(len(classes))),
        }
    )


def tallied(rows, classes, **changes):
    """What is summed of rows, and how."""
    rivals = tuple(name for name in rows.columns if name.startswith("baseline_"))
    kept = ("time", "actual", "probabilities", "town", *rivals)
    spec = ClassSpec(
        **{"levels": tuple(LEVELS), "segment_columns": ("town",), "rivals": rivals, "kept": kept} | changes,
        classes=classes,
    )
    return ClassTally.merge([ClassTally.measure(rows, spec)], spec), spec


def content_of(classes, rows=None):
    """Content of these rows, else of invented ones."""
    rows = rows_of(classes) if rows is None else rows
    tally, spec = tallied(rows, classes)
    table = class_segment_table(tally, spec)
    return ClassContent(
        title="shop: mood",
        target="mood",
        created=dt.datetime(2021, 1, 1, tzinfo=dt.timezone.utc),
        classes=classes,
        rows=rows.height,
        start=rows["time"].min(),
        end=rows["time"].max(),
        metrics=class_metrics(rows["actual"].to_numpy(), probabilities_of(rows, len(classes))),
        baselines={"global_rate": float(rows["baseline_global_rate"].mean())},
        coverage=set_results(tally, spec, 500),
        segments=table,
        figures={
            "reliability": class_plots.reliability_plot(reliability_of(tally), classes),
            "confusion": class_plots.confusion_plot(confusion_of(tally, spec), classes),
            "loss": class_plots.loss_over_time(rows, classes, "mood"),
        },
        data=data_facts([]),
        splits=[],
        run={"Engine": "xgboost, 3 rounds"},
        tables={"predictions": 1},
        gates=[Gate("beats best baseline", 0.5, 0.6, True, "", False)],
    )
