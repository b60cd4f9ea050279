"""Consumes feature batches, produces predictions without a model: the strongest simple alternatives."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from assay.model.group_tables import Columns, fields_of, finest, keyed_rows
from assay.model.scale import Floats, as_floats

DAYS_PER_MONTH = 365.25 / 12


@dataclasses.dataclass(frozen=True)
class Baselines:
    """Predictions without a model, of what the training period and a row's own past say.

    `global_median`, `group_median`: of the training period.  `temporal_trend`: the group's line of least squares in
    time.  `seasonal`: the group's median in the same season of the year.  `last_value`: the entity's last known value.
    `age_adjusted`: the last value moved along the group's line for as long as it is old.  `market_trend`: the last
    value moved with the market's momentum for as long as it is old; without one, the market's level a month on.
    `combined`: the median of the last five.

    A group that has too few rows for a figure takes that of its parent, the group by all columns but the last, at the
    end that of all rows. What has no last value takes `group_median` for it, `temporal_trend` for what is made of it.

    transform: scale of the lines, as of the target.  group_columns: what groups.  end_days, span_days: end and length
    of the training period, in days (the end since 1970); lines are drawn no further than that length beyond it.
    groups: by how many columns -> table of the groups: keys, `median`, and the line's `days`, `level` and `slope` per
    day on the scale (null where a figure is the parent's).  seasons: the same for medians by `season`.
    weekly: seasons are days of the week within months.  last_value, age_days, market_level, market_momentum: feature
    columns, or None where the features have none.  momentum_months: how many months the momentum is of.
    """

    transform: str
    group_columns: tuple[str, ...]
    end_days: float
    span_days: float
    groups: tuple[Columns, ...]
    seasons: tuple[Columns, ...]
    weekly: bool = False
    last_value: str | None = None
    age_days: str | None = None
    market_level: str | None = None
    market_momentum: str | None = None
    momentum_months: int = 1

    LAST: ClassVar[tuple[str, ...]] = ("last_value", "age_adjusted")

    @property
    def global_median(self) -> float:
        """Of all rows of the training period."""
        return float(self.groups[0]["median"][0])

    @property
    def names(self) -> list[str]:
        """Baselines that predict, in the order of `predict`."""
        grouped = ["group_median"] if self.group_columns else []
        last = list(self.LAST) if self.last_value else []
        return ["global_median", *grouped, "temporal_trend", "seasonal", *last, "market_trend", "combined"]

    @property
    def columns(self) -> list[str]:
        """Feature columns needed to predict."""
        past = (self.last_value, self.age_days, self.market_level, self.market_momentum)
        return ["time", *self.group_columns, *(name for name in past if name)]

    def predict(self, batch: pa.RecordBatch) -> dict[str, Floats]:
        """Name -> predictions (n,) in the target's unit."""
        facts, season = self._facts(batch)
        median, slope = facts["median"], np.nan_to_num(facts["slope"])  # no line anywhere: level
        found = {"global_median": np.full(batch.num_rows, self.global_median)}
        if self.group_columns:
            found["group_median"] = median
        ahead = np.minimum(facts["time"], self.end_days + self.span_days) - facts["days"]
        trend = self._unbent(facts["level"] + slope * ahead)
        found |= {"temporal_trend": trend, "seasonal": season}
        last, age = self._column(batch, self.last_value), self._column(batch, self.age_days)
        last = np.where(last > 0, last, np.nan) if self.transform == "log" else last
        age = np.clip(np.nan_to_num(age), 0.0, self.span_days)
        if self.last_value:
            found["last_value"] = np.where(np.isfinite(last), last, median)
            moved = self._unbent(self._bent(last) + slope * age)
            found["age_adjusted"] = np.where(np.isfinite(last), moved, trend)
        monthly = (1 + np.nan_to_num(self._column(batch, self.market_momentum))) ** (1 / self.momentum_months)
        level = self._column(batch, self.market_level) * monthly
        moved = last * monthly ** (age / DAYS_PER_MONTH)
        found["market_trend"] = np.where(np.isfinite(moved), moved, np.where(np.isfinite(level), level, trend))
        parts = [found[name] for name in found if name not in {"global_median", "group_median"}]
        found["combined"] = np.median(np.stack(parts), axis=0)
        return found

    def _facts(self, batch: pa.RecordBatch) -> tuple[dict[str, Floats], Floats]:
        """What the finest group that has it says of each row, and the median of its season."""
        rows = keyed_rows(batch, self.group_columns, weekly=self.weekly)
        found = finest(rows, self.groups, self.group_columns, ("median", "days", "level", "slope"))
        season = finest(rows, self.seasons, self.group_columns, ["median"], by_season=True)["median"]
        found["time"] = rows["day"].to_numpy()
        return found, np.where(np.isfinite(season), season, found["median"])

    def _column(self, batch: pa.RecordBatch, name: str | None) -> Floats:
        values = as_floats(batch.column(name)) if name else np.full(batch.num_rows, np.nan)
        return np.where(np.isfinite(values), values, np.nan)

    def _bent(self, y: Floats) -> Floats:
        return np.log(y) if self.transform == "log" else y

    def _unbent(self, z: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.exp(z) if self.transform == "log" else z

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Baselines:
        """Read back `to_dict`.

        Raises:
            DataError: another version wrote it.
        """
        return cls(**fields_of(cls, tree))
