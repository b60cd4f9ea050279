"""Consumes an entity's own past and its market's, produces where the entity stands: price to market, share, beta, rank.

Price and share compare features that were made before. Beta needs more of the market than its features: its mean in
each step of the past, beside the entity's own value then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.features.exact import PassingSums, RunningSums
from assay.features.family import FLOAT32_MAX
from assay.features.history import spread
from assay.features.plan import OWN, Feature, FeaturePlan
from assay.features.timeline import DAY_US, Itself

if TYPE_CHECKING:
    import polars as pl

    from assay.features.timeline import Numbers, Positions, Timeline

LEAST_CHANGES = 5
LARGEST_CHANGE = 1e6
STRETCH = 65_536  # rows at a time, where there may be very many


class Standing:
    """``price_to_market``: last own value over the market's level, minus 1, null unless both are above 0.
    ``share_{w}d``: the entity's part of the market's sum of values over the longest window, null where that is not
    above 0.
    """

    name = "standing"

    def features(self, plan: FeaturePlan, earlier: Sequence[Feature]) -> list[Feature]:
        """Of every target and market whose parts are there."""
        there = {f.name for f in earlier}
        found = []
        for target in plan.targets:
            for by in plan.markets:
                level = (plan.anchor(target), f"{target}__{by}__market_level")
                wanted = plan.settings.market_standing if plan.market else ()
                if "price" in wanted and there.issuperset(level):
                    name = f"{target}__{by}__price_to_market"
                    found.append(Feature(name, self.name, (target,), "last value against the last whole month", by))
                days = max(plan.settings.windows_days, default=0)
                if "share" in wanted and there.issuperset(_parts(target, by, days)):
                    name = f"{target}__{by}__share_{days}d"
                    found.append(Feature(name, self.name, (target,), f"{days} days", by))
        return found

    def add(self, frame: pl.DataFrame, plan: FeaturePlan, features: Sequence[Feature]) -> pl.DataFrame:
        """The frame with price and share."""
        import polars as pl

        columns = []
        for feature in features:
            (target,), by = feature.inputs, str(feature.group)
            if feature.name.endswith("price_to_market"):
                last = pl.col(plan.anchor(target)).cast(pl.Float64)
                level = pl.col(f"{target}__{by}__market_level").cast(pl.Float64)
                figure = pl.when((last > 0) & (level > 0)).then(last / level - 1)
            else:
                days = int(feature.name.rsplit("_", 1)[1].removesuffix("d"))
                own_mean, own_count, mean, count = (pl.col(name).cast(pl.Float64) for name in _parts(target, by, days))
                figure = pl.when(mean * count > 0).then(own_mean * own_count / (mean * count))
            columns.append(figure.clip(-FLOAT32_MAX, FLOAT32_MAX).cast(pl.Float32).alias(feature.name))
        return frame.with_columns(columns)


def _parts(target: str, by: str, days: int) -> tuple[str, ...]:
    return tuple(f"{target}__{whose}__{s}_{days}d" for whose in (OWN, by) for s in ("mean", "count"))


def beta_features(plan: FeaturePlan, by: str) -> list[Feature]:
    """``beta_{w}d`` of every target to a market: least-squares slope of the entity's relative changes on those of its
    market's mean, over a span of days (the market model; Sharpe, 1963). Null with fewer than five changes.
    """
    if not plan.market or not plan.temporal or by not in plan.markets:
        return []
    return [
        Feature(f"{target}__{by}__beta_{days}d", "beta", (target,), f"{days} days", by, "sums")
        for target in plan.targets
        for days in sorted(set(plan.settings.beta_days))
    ]


def now_column(target: str) -> str:
    """Column of a group's table with the target's mean in the step itself: of use for what came after it alone."""
    return f"{target}|now"


def _stretches(length: int) -> list[slice]:
    return [slice(first, min(first + STRETCH, length)) for first in range(0, length, STRETCH)]


def _changes(values: Numbers, rows: slice) -> Numbers:
    """Relative change of some rows from the row before each; the first of all has none."""
    first = max(rows.start - 1, 0)
    near = values[first : rows.stop]
    found = np.full(len(near), np.nan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        np.divide(near[1:], near[:-1], out=found[1:])
    found -= 1
    return found[rows.start - first :]


def beta(
    timeline: Timeline, plan: FeaturePlan, target: str, by: str, *, market: Numbers, steps: Positions, delay_us: int
) -> dict[str, Numbers]:
    """Feature name -> beta at each cell asked for.

    Args:
        timeline: of entities.
        market: mean value of each cell's market in the cell's own step, of all cells; NaN where there is none.
        steps: start of each cell's step on the dataset's clock, of all cells, microseconds.
        delay_us: how far before a step's start another step must start to be known as a whole.
    """
    size = plan.group_step_us
    first = int(steps.min(initial=0)) // size
    width = int(steps.max(initial=0)) // size - first + 2

    def pairs() -> tuple[Positions, Callable[[str], RunningSums | PassingSums]]:
        known = timeline.known(target)
        other, step, key = market, steps, timeline.keys
        if not isinstance(known.positions, Itself):
            other, step, key = other[known.positions], step[known.positions], key[known.positions]
        usable = np.append(np.zeros(min(len(key), 1), dtype=bool), key[1:] == key[:-1])
        for rows in _stretches(len(key)):
            for series in (other, known.means):
                change = _changes(series, rows)
                usable[rows] &= (change < LARGEST_CHANGE) & (change > -LARGEST_CHANGE)
        place = key
        place *= width
        for rows in _stretches(len(key)):
            place[rows] += step[rows] // size - first

        def used(series: Numbers) -> Callable[[slice], Numbers]:
            return lambda rows: np.where(usable[rows], _changes(series, rows), 0.0)

        factors: dict[str, Callable[[slice], Any]] = {
            "n": usable.__getitem__,
            "x": used(other),
            "y": used(known.means),
        }

        def running(name: str) -> RunningSums | PassingSums:
            one, two = factors[name[0]], factors[name[-1]]
            product = (lambda rows: one(rows) * two(rows)) if len(name) > 1 else one
            return timeline.once((target, by, "beta", name), lambda: timeline.summed(product, len(place)), bulky=True)

        return place, running

    place, running = timeline.once((target, by, "beta"), pairs, bulky=True)
    bound = -((delay_us - steps[timeline.asked]) // size) - first  # steps before it are known
    found = {}
    for days in sorted(set(plan.settings.beta_days)):
        span = min(days, plan.settings.max_history_days or days) * DAY_US // size
        until, since = (
            np.searchsorted(place, timeline.key * width + np.clip(b, 0, width - 1)) for b in (bound, bound - span)
        )
        since = np.minimum(since + 1, until)  # the change to the first value of the span began before it
        n, sx, sy, sxx, sxy = (running(name).between(since, until) for name in ("n", "x", "y", "xx", "xy"))
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = spread(sxx, sx, n)
            slope = (sxy - sx * sy / n) / variance
        found[f"{target}__{by}__beta_{days}d"] = np.where((n >= LEAST_CHANGES) & (variance > 0), slope, np.nan)
    return found
