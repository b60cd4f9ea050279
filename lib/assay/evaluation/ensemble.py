"""Consumes what training recorded of an ensemble and evaluated rows, produces what the report says of its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from assay.evaluation.content import Disagreement, EnsembleResult, Rival

COLUMN = "disagreement"
FEW = 50  # rows, below which nothing is said of how disagreement and error go together


def ensemble_result(facts: Mapping[str, Any], rows: pl.DataFrame, transform: str) -> EnsembleResult | None:
    """What the record `ensemble` of a model's facts tells, and how disagreement goes with errors; None without one."""
    record = facts.get("ensemble")
    if record is None:
        return None
    weights = {member["name"]: float(member["weight"]) for member in record["members"]}
    rivals = [
        Rival(
            name=one["name"],
            fitted_rmse=one["fitted_rmse"],
            chosen_rmse=one["chosen_rmse"],
            chosen=one["name"] == record["chosen"],
            weight=weights[one["name"]] if one["member"] else None,
        )
        for one in record["candidates"]
    ]
    return EnsembleResult(
        rivals=rivals,
        fitted_rows=int(record["fitted_on"]["rows"]),
        chosen_rows=int(record["chosen_on"]["rows"]),
        as_of=record["as_of"],
        disagreement=disagreement(rows, transform),
    )


def disagreement(rows: pl.DataFrame, transform: str) -> Disagreement | None:
    """How it goes with the size of errors on the model's scale; None with few rows, or where members never differ.

    rows: actual, prediction and disagreement, the last on the model's scale.  transform: of the target.
    """
    if COLUMN not in rows.columns:
        return None
    known = rows.select("actual", "prediction", COLUMN).drop_nulls()
    actual, prediction, spread = (known[name].to_numpy() for name in known.columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The last value that a target may be relative to is in both of them, and goes.
        error = np.abs(np.log(actual / prediction) if transform == "log" else actual - prediction)
    usable = np.isfinite(error) & np.isfinite(spread)
    error, spread = error[usable], spread[usable]
    if len(error) < FEW or not spread.std() > 0 or not error.std() > 0:
        return None
    correlation = pl.DataFrame({"e": error, "d": spread}).select(pl.corr("e", "d", method="spearman")).item()
    order, fifth = np.argsort(spread, kind="stable"), len(spread) // 5
    least, most = float(error[order[:fifth]].mean()), float(error[order[-fifth:]].mean())
    return Disagreement(float(correlation), float(spread.mean()), most / least if least > 0 else None)
