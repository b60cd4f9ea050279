"""Consumes the figures of all rows, produces the list of measures with what each means, for those who want them all."""

from __future__ import annotations

import math

from assay.evaluation.content import ReportContent
from assay.pages.formats import number, percent


def measures(content: ReportContent) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of every measure of the predictions; those that are undefined are left out."""
    m, unit = content.metrics, content.unit
    found = [
        ("MAE", number(m["mae"], unit), "mean size of an error"),
        ("RMSE", number(m["rmse"], unit), "root of the mean squared error: large errors weigh more"),
        ("R²", number(m["r2"]), "share of the variation that is explained, 1 at best"),
        ("Bias", number(m["bias"], unit), "mean error; above 0 predictions are too high on average"),
        ("Median error", percent(m["median_ape"]), "half of the predictions were closer to the outcome than this"),
        ("MAPE", percent(m["mape"]), "mean error in percent of the outcome; small outcomes weigh much"),
        *(
            (f"Within {k} %", percent(m[f"within_{k}pct"] / 100), f"share of predictions no further off than {k} %")
            for k in (5, 10, 20)
        ),
    ]
    if "pinball_50" in m:
        found.append(
            ("Pinball, median", number(m["pinball_50"], unit), "loss of the prediction as a median: half the MAE")
        )
    for result in content.coverage:
        level = percent(result.level, 0)
        if "pinball" in result.metrics:
            meaning = f"mean loss of both ends of the {level} interval, as quantiles; lower is better"
            found.append((f"Pinball, {level}", number(result.metrics["pinball"], unit), meaning))
        meaning = "width plus a penalty for each outcome outside (Gneiting and Raftery, 2007); lower is better"
        found.append((f"Interval score, {level}", number(result.metrics["interval_score"], unit), meaning))
    story = content.story
    if story is not None and not story.direction.why:
        told = story.direction
        from_ = "its last known value" if told.of == "last_value" else "0"
        found.append(
            ("Direction", percent(told.accuracy), f"of outcomes that moved from {from_}, called up or down rightly")
        )
        found.append(("Win rate", percent(told.win_rate), "the same, of rows where a move was called"))
        if told.sharpe is not None:
            meaning = "mean over standard deviation of what following every call gave in a day, before costs"
            found.append(("Sharpe ratio, daily", number(told.sharpe), meaning))
    return [line for line in found if line[1] != number(math.nan)]
