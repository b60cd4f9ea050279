"""Consumes what training recorded of an ensemble and evaluated rows, produces what the report says of its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from assay.evaluation.content import Disagreement, EnsembleResult, Rival

Floats = npt.NDArray[np.float64]
COLUMN = "disagreement"
FEW = 50  # rows, below which nothing is said of how disagreement and error go together


def ensemble_result(facts: Mapping[str, Any], rows: pl.DataFrame, error: Floats) -> EnsembleResult | None:
    """What the record `ensemble` of a model's facts tells, and how disagreement goes with errors; None without one.

    error: size of each row's, (n,).
    """
    record = facts.get("ensemble")
    if record is None:
        return None
    weights = {member["name"]: float(member["weight"]) for member in record["members"]}
    loss = record.get("loss", "rmse")
    rivals = [
        Rival(
            name=one["name"],
            fitted_loss=one[f"fitted_{loss}"],
            chosen_loss=one[f"chosen_{loss}"],
            chosen=one["name"] == record["chosen"],
            weight=weights[one["name"]] if one["member"] else None,
        )
        for one in record["candidates"]
    ]
    return EnsembleResult(
        rivals=rivals,
        fitted_rows=int(record["fitted_on"]["rows"]),
        chosen_rows=int(record["chosen_on"]["rows"]),
        loss=loss,
        as_of=record["as_of"],
        disagreement=disagreement(rows, error),
    )


def errors(rows: pl.DataFrame, transform: str) -> Floats:
    """Sizes of errors (n,) on the model's scale, of numbers. transform: of the target."""
    actual, prediction = rows["actual"].to_numpy(), rows["prediction"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        # The last value that a target may be relative to is in both of them, and goes.
        return np.asarray(np.abs(np.log(actual / prediction) if transform == "log" else actual - prediction))


def disagreement(rows: pl.DataFrame, error: Floats) -> Disagreement | None:
    """How it goes with the size of errors (n,); None with few rows, or where members never differ."""
    if COLUMN not in rows.columns:
        return None
    spread = rows[COLUMN].to_numpy()
    usable = np.isfinite(error) & np.isfinite(spread)
    error, spread = error[usable], spread[usable]
    if len(error) < FEW or not spread.std() > 0 or not error.std() > 0:
        return None
    correlation = pl.DataFrame({"e": error, "d": spread}).select(pl.corr("e", "d", method="spearman")).item()
    order, fifth = np.argsort(spread, kind="stable"), len(spread) // 5
    least, most = float(error[order[:fifth]].mean()), float(error[order[-fifth:]].mean())
    return Disagreement(float(correlation), float(spread.mean()), most / least if least > 0 else None)
