"""Consumes nothing, produces the declarations of what monitoring writes: grain, key, partitions, columns, units."""

from __future__ import annotations

import pyarrow as pa

from assay.runtime.tables import TIME, Table

DRIFT_DETECTIONS = Table(
    name="drift_detections",
    stage="monitoring",
    grain="one column in one segment, compared between two windows of rows at one date",
    key=("target", "as_of", "column", "segment"),
    partition_by=("target", "as_of"),
    columns={
        "column": (pa.string(), "input of the champion, or prediction, or width_80 and its like of `predictions`"),
        "kind": (pa.string(), "number or category of an input; prediction"),
        "segment": (pa.string(), "segment column=value, several joined by '|', empty for all rows"),
        "reference_start": (TIME, "first time of the reference window, UTC; null from the first row on"),
        "reference_end": (TIME, "end of the reference window, UTC, its own rows before it; null up to the last row"),
        "current_start": (TIME, "the same of the current window"),
        "current_end": (TIME, "the same of the current window"),
        "rows_reference": (pa.int64(), "rows of the reference window"),
        "rows_current": (pa.int64(), "rows of the current window"),
        "missing_reference": (pa.float64(), "share of them without a finite value, 0 to 1"),
        "missing_current": (pa.float64(), "the same of the current window"),
        "median_reference": (pa.float64(), "in the column's unit; null of categories"),
        "median_current": (pa.float64(), "in the column's unit; null of categories"),
        "psi": (pa.float64(), "index of population stability over the reference's deciles, or over categories"),
        "psi_by_chance": (pa.float64(), "what it exceeds in 1 of 20 pairs of windows without drift"),
        "js": (pa.float64(), "distance of Jensen and Shannon over the same bins, 0 to 1"),
        "ks": (pa.float64(), "statistic of Kolmogorov and Smirnov, 0 to 1; null of categories"),
        "error": (pa.float64(), "by how much ks may be wrong at most: 0 of exact ones, more of sketched ones"),
        "ks_p": (pa.float64(), "its p-value, of the least that ks may be: a sketch makes no alarm"),
        "wasserstein": (pa.float64(), "area between the two distribution functions, in the column's unit"),
        "wasserstein_scaled": (pa.float64(), "the same in standard deviations of the reference"),
        "chi2": (pa.float64(), "Pearson's statistic; null of numbers"),
        "chi2_p": (pa.float64(), "its p-value"),
        "missing_p": (pa.float64(), "p-value of his test of the two shares of missing values"),
        "new_share": (pa.float64(), "share of current rows whose category the reference window has not, 0 to 1"),
        "new_categories": (pa.list_(pa.string()), "the most frequent of them"),
        "p": (pa.float64(), "of all tests of the column together (Bonferroni)"),
        "p_adjusted": (pa.float64(), "the same among all columns and segments of the run (Benjamini and Hochberg)"),
        "drifted": (pa.bool_(), "whether there is a reason to say so"),
        "reasons": (pa.list_(pa.string()), "distribution, missing, new_categories"),
        "model_version": (pa.string(), "champion whose inputs and predictions they are"),
        "target": (pa.string(), "target column"),
        "as_of": (pa.string(), "day that the run pretended to be at, YYYY-MM-DD"),
    },
)
