"""Consumes forecasts of calibration and test rows, produces intervals by other methods, and figures of any intervals.

Everything is on the model's scale, on which all methods are given the same predictions, and turned into the target's
unit by the caller. Methods that keep one calibration see only the calibration period.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bounds = tuple[Floats, Floats]
SEGMENT_ROWS = 500  # fewer say little of a segment
MONTH_ROWS = 100
DRAWS, DRAWS_SEED, ONE_IN_TWENTY = 2_000, 7, 0.95
POINTS = {"segment": 0.03, "month": 0.05}  # that are wanted
WORST = {  # figure -> what stands before it
    "worst_segment": "",
    "segment_by_chance": "±",
    "worst_month": "",
    "month_by_chance": "±",
}
WANTED = ("segments_wanted", "months_wanted")
NEEDS = ("split_needs", "split_needs_in_segments", "split_needs_in_months")
FIGURES = ("rows", "coverage", *WORST, *WANTED, "mean_width", "interval_score")
COLUMNS = (  # of `line`
    f"{'rows':>9s}{'coverage':>10s}{'segment':>9s}{'chance':>8s}{'month':>8s}{'chance':>8s}{'mean width':>12s}"
    f"{'interval score':>16s}"
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of one period on the model's scale.

    y, prediction: (n,).  quantiles: (n, 2) of another model, at both ends of the level that is asked for.
    segments: (n,) texts.
    """

    y: Floats
    prediction: Floats
    quantiles: Floats
    segments: npt.NDArray[np.object_]


def plain_split(calibrate: Rows, test: Rows, level: float) -> Bounds:
    """Split conformal as textbooks have it: one quantile of absolute residuals (Lei et al. 2018)."""
    scores = np.sort(np.abs(calibrate.y - calibrate.prediction))
    rank = int(np.ceil((len(scores) + 1) * level - 1e-9))
    quantile = scores[rank - 1] if rank <= len(scores) else np.inf
    return test.prediction - quantile, test.prediction + quantile


def raw_quantiles(_: Rows, test: Rows, __: float) -> Bounds:
    """The quantile model's own interval, corrected by nothing."""
    return test.quantiles[:, 0], test.quantiles[:, 1]


def mapie_split(calibrate: Rows, test: Rows, level: float) -> Bounds:
    """MAPIE's split conformal regressor around the same predictions."""
    from mapie.regression import SplitConformalRegressor

    found = SplitConformalRegressor(_Told(0), confidence_level=level, prefit=True)
    found.conformalize(calibrate.prediction[:, None], calibrate.y)
    _, intervals = found.predict_interval(test.prediction[:, None])
    return intervals[:, 0, 0], intervals[:, 1, 0]


def mapie_cqr(calibrate: Rows, test: Rows, level: float) -> Bounds:
    """MAPIE's conformalised quantile regressor around the same quantiles."""
    from mapie.regression import ConformalizedQuantileRegressor

    found = ConformalizedQuantileRegressor([_Told(0), _Told(1), _Told(2)], confidence_level=level, prefit=True)
    found.conformalize(_columns(calibrate), calibrate.y)
    _, intervals = found.predict_interval(_columns(test))
    return intervals[:, 0, 0], intervals[:, 1, 0]


def crepes_split(calibrate: Rows, test: Rows, level: float) -> Bounds:
    """crepes' conformal regressor."""
    return _crepes(calibrate, test, level, by_segment=False)


def crepes_mondrian(calibrate: Rows, test: Rows, level: float) -> Bounds:
    """crepes' conformal regressor, Mondrian by segment. Segments that it has not calibrated get no finite interval."""
    return _crepes(calibrate, test, level, by_segment=True)


OTHERS: Mapping[str, Mapping[str, Callable[[Rows, Rows, float], Bounds]]] = {
    "split": {"split": plain_split},
    "quantiles": {"quantiles": raw_quantiles},
    "mapie": {"split": mapie_split, "cqr": mapie_cqr},
    "crepes": {"split": crepes_split, "mondrian": crepes_mondrian},
}


def _crepes(calibrate: Rows, test: Rows, level: float, *, by_segment: bool) -> Bounds:
    from crepes import ConformalRegressor

    known = set(calibrate.segments)
    usable = np.array([segment in known for segment in test.segments]) if by_segment else np.ones(len(test.y), bool)
    bins: dict[str, Any] = {"bins": calibrate.segments.astype(str)} if by_segment else {}
    fitted = ConformalRegressor().fit(residuals=calibrate.y - calibrate.prediction, **bins)
    lower, upper = np.full(len(test.y), -np.inf), np.full(len(test.y), np.inf)
    told = {"bins": test.segments[usable].astype(str)} if by_segment else {}
    found = fitted.predict_int(test.prediction[usable], confidence=level, **told)
    lower[usable], upper[usable] = found[:, 0], found[:, 1]
    return lower, upper


def _columns(rows: Rows) -> Floats:
    return np.column_stack([rows.quantiles, rows.prediction])


class _Told:
    """A regressor that is fitted already and says what is in a column of its inputs."""

    def __init__(self, column: int = 0) -> None:
        self.column, self.fitted_ = column, True

    def fit(self, *_: Any) -> _Told:
        return self

    def predict(self, inputs: Any) -> Floats:
        return np.asarray(inputs)[:, self.column]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"column": self.column}

    def set_params(self, **params: Any) -> _Told:
        self.column = params.get("column", self.column)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


def figures(
    y: Floats,
    bounds: Bounds,
    segments: npt.NDArray[np.object_],
    times: npt.NDArray[np.datetime64],
    level: float,
) -> dict[str, float]:
    """What intervals (n,) of outcomes (n,) at times (n,) are worth, in the outcomes' unit.

    coverage; worst_segment and worst_month: coverage that is farthest from the level, of segments of `SEGMENT_ROWS` or
    more and calendar months of `MONTH_ROWS` or more (NaN where there is none); segment_by_chance and month_by_chance:
    how far off the worst one is in one draw of twenty, see `_segments_by_chance` and `_months_by_chance`;
    segments_wanted and months_wanted: in what share of the draws all of them are within `POINTS`; mean_width;
    interval_score, less is better (Gneiting and Raftery 2007).
    """
    lower, upper = bounds
    inside = (y >= lower) & (y <= upper)
    miss = 2 / (1 - level) * (np.maximum(lower - y, 0) + np.maximum(y - upper, 0))
    off, days, months = inside - level, times.astype("datetime64[D]"), times.astype("datetime64[M]")
    by_segment, by_month = _segments_by_chance(off, segments, days), _months_by_chance(off, days)
    return {
        "rows": float(len(y)),
        "coverage": float(inside.mean()),
        "worst_segment": level + _worst(off, segments, SEGMENT_ROWS),
        "segment_by_chance": float(np.quantile(by_segment, ONE_IN_TWENTY)),
        "worst_month": level + _worst(off, months, MONTH_ROWS),
        "month_by_chance": float(np.quantile(by_month, ONE_IN_TWENTY)),
        "segments_wanted": _share_within(by_segment, POINTS["segment"]),
        "months_wanted": _share_within(by_month, POINTS["month"]),
        "mean_width": float((upper - lower).mean()),
        "interval_score": float((upper - lower + miss).mean()),
    }


def widths_needed(
    test: Rows, inside: npt.NDArray[np.bool_], times: npt.NDArray[np.datetime64], in_unit: Callable[[Bounds], Bounds]
) -> dict[str, float]:
    """Mean width in the target's unit of plain split around the same predictions, did it hold as many rows as `inside`.

    It is told afterwards, from the outcomes themselves, which width to take: one for all rows (`split_needs`); one for
    each segment that holds as many there (`split_needs_in_segments`), or for each calendar month. Groups of fewer rows
    than `SEGMENT_ROWS` and `MONTH_ROWS` share one.
    """
    residuals, months = np.abs(test.y - test.prediction), times.astype("datetime64[M]").astype(str)
    together = [np.zeros(len(test.y)), _large(test.segments, SEGMENT_ROWS), _large(months, MONTH_ROWS)]
    found = {}
    for name, groups in zip(NEEDS, together, strict=True):
        widths = np.zeros(len(test.y))
        for group in np.unique(groups):
            mine = groups == group
            if held := int(inside[mine].sum()):
                widths[mine] = np.sort(residuals[mine])[held - 1]
        lower, upper = in_unit((test.prediction - widths, test.prediction + widths))
        found[name] = float((upper - lower).mean())
    return found


def _large(groups: npt.NDArray[Any], least: int) -> npt.NDArray[np.str_]:
    """Groups of at least so many rows; the others are one."""
    _, group, rows = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    return np.where(rows[group] >= least, group, -1).astype(str)


def line(each: Mapping[str, float]) -> str:
    """Figures for people, under `COLUMNS`."""
    segment, segment_chance, month, month_chance = (
        "-" if np.isnan(each[name]) else f"{sign}{each[name]:.1%}" for name, sign in WORST.items()
    )
    return (
        f"{each['rows']:9,.0f}{each['coverage']:10.1%}{segment:>9s}{segment_chance:>8s}{month:>8s}{month_chance:>8s}"
        f"{each['mean_width']:12.5g}{each['interval_score']:16.5g}"
    )


def finite(each: Mapping[str, float]) -> dict[str, float | None]:
    """Figures for JSON, which knows no NaN and no infinity."""
    return {name: value if np.isfinite(value) else None for name, value in each.items()}


def _worst(off: Floats, groups: npt.NDArray[Any], least: int) -> float:
    """Mean of the group of at least so many rows whose mean is farthest from 0."""
    _, group = np.unique(groups.astype(str), return_inverse=True)
    rows = np.bincount(group)
    means = (np.bincount(group, weights=off) / rows)[rows >= least]
    return float(means[np.argmax(np.abs(means))]) if len(means) else math.nan


def _share_within(worst: Floats, points: float) -> float:
    return math.nan if np.isnan(worst).any() else float((worst <= points).mean())


def _segments_by_chance(off: Floats, segments: npt.NDArray[Any], days: npt.NDArray[Any]) -> Floats:
    """How far the worst segment is off in draws where all rows of a day have one random sign; NaN where there is none.

    As rows of a day are hit or missed together, days are drawn and not rows (a wild bootstrap of clusters; Cameron,
    Gelbach and Miller 2008).
    """
    _, segment = np.unique(segments.astype(str), return_inverse=True)
    _, day = np.unique(days, return_inverse=True)
    rows = np.bincount(segment)
    enough = rows >= SEGMENT_ROWS
    if not enough.any():
        return np.array([math.nan])
    sums = np.zeros((len(rows), int(day.max()) + 1))
    np.add.at(sums, (segment, day), off)
    means = sums[enough] / rows[enough, None]
    signs = np.random.default_rng(DRAWS_SEED).choice((-1.0, 1.0), size=(means.shape[1], DRAWS))
    return np.asarray(np.abs(means @ signs).max(axis=0))


def _months_by_chance(off: Floats, days: npt.NDArray[np.datetime64]) -> Floats:
    """How far the worst month is off in draws where the same days are dealt to months anew; NaN where there is none.

    Signs would say nothing of months of four weeks: all four agree in one draw of eight.
    """
    each, day = np.unique(days, return_inverse=True)
    sums, rows = np.bincount(day, weights=off), np.bincount(day)
    months = each.astype("datetime64[M]")
    of_month = (months[:, None] == np.unique(months)).astype(float)  # (days, months)
    enough = rows @ of_month >= MONTH_ROWS
    if not enough.any():
        return np.array([math.nan])
    dealt = np.random.default_rng(DRAWS_SEED).permuted(np.tile(np.arange(len(each)), (DRAWS, 1)), axis=1)
    means = (sums[dealt] @ of_month)[:, enough] / (rows[dealt] @ of_month)[:, enough]
    return np.asarray(np.abs(means).max(axis=1))
