"""Consumes feature batches, produces probabilities of classes without a model: the strongest simple alternatives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from assay.model.group_tables import Columns, fields_of, finest, keyed_rows
from assay.model.outcome import Floats
from assay.model.scale import as_floats

FLOOR = 1e-3  # least probability that a rule gives to a class: one that is surer of a wrong class has no finite loss


@dataclasses.dataclass(frozen=True)
class RateBaselines:
    """Probabilities of classes without a model: how often each came in the training period.

    `global_rate`, `group_rate`: shares of all rows, of the row's group.  `temporal_trend`: the group's shares moved
    along their lines of least squares in time.  `seasonal`: the group's shares in the same season of the year.
    `last_value`: the shares among rows after the same last class.  `market_trend`: the market's
    level, which is the share of a binary target.  `combined`: the mean of the last four.

    Shares of a group are shrunk to those of its parent, the group by all columns but the last.

    classes: how many.  group_columns: what groups.  end_days, span_days: end and length of the training period, in days
    (the end since 1970).  groups: by how many columns -> table of the groups: keys, `rate_k` and, with null where the
    group has no line, its mean day `days` and `slope_k` per day.  seasons: the same for `rate_k` by `season`.
    last_value, market_level: feature columns, or None.  after: [last][class] -> share.
    """

    classes: int
    group_columns: tuple[str, ...]
    end_days: float
    span_days: float
    groups: tuple[Columns, ...]
    seasons: tuple[Columns, ...]
    weekly: bool = False
    last_value: str | None = None
    market_level: str | None = None
    after: tuple[tuple[float, ...], ...] = ()

    @property
    def names(self) -> list[str]:
        """Rules that predict, in the order of `predict`."""
        grouped = ["group_rate"] if self.group_columns else []
        last = ["last_value"] if self.last_value else []
        market = ["market_trend"] if self.market_level else []
        return ["global_rate", *grouped, "temporal_trend", "seasonal", *last, *market, "combined"]

    @property
    def columns(self) -> list[str]:
        """Feature columns needed to predict."""
        return ["time", *self.group_columns, *(name for name in (self.last_value, self.market_level) if name)]

    def predict(self, batch: pa.RecordBatch) -> dict[str, Floats]:
        """Name -> probabilities (n, K)."""
        rate, slope, days, time, season = self._facts(batch)
        found = {"global_rate": np.tile([self.groups[0][f"rate_{k}"][0] for k in self._codes], (batch.num_rows, 1))}
        if self.group_columns:
            found["group_rate"] = rate
        ahead = np.minimum(time, self.end_days + self.span_days) - days
        found |= {"temporal_trend": bounded(rate + np.nan_to_num(slope * ahead[:, None])), "seasonal": season}
        if self.last_value:
            last = as_floats(batch.column(self.last_value))
            known = np.isin(last, self._codes)
            found["last_value"] = np.where(
                known[:, None], np.array(self.after)[np.where(known, last, 0).astype(np.intp)], rate
            )
        if self.market_level:
            level = as_floats(batch.column(self.market_level))
            both = np.column_stack([1 - level, level])
            found["market_trend"] = np.where(np.isfinite(level)[:, None], bounded(np.nan_to_num(both)), rate)
        parts = [found[name] for name in found if name not in {"global_rate", "group_rate"}]
        found["combined"] = np.mean(parts, axis=0)
        return found

    @property
    def _codes(self) -> range:
        return range(self.classes)

    def _facts(self, batch: pa.RecordBatch) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Of each row's finest group that has them: shares, their slopes, the mean day; the time; the season's shares.

        Every depth has only groups with rows enough; a finer one takes precedence.
        """
        rows = keyed_rows(batch, self.group_columns, weekly=self.weekly)
        rates, slopes = ([f"{name}_{k}" for k in self._codes] for name in ("rate", "slope"))
        own = finest(rows, self.groups, self.group_columns, [*rates, *slopes, "days"])
        its = finest(rows, self.seasons, self.group_columns, rates, by_season=True)
        rate, season = (np.column_stack([found[name] for name in rates]) for found in (own, its))
        slope = np.nan_to_num(np.column_stack([own[name] for name in slopes]))  # no line anywhere: level
        season = np.where(np.isfinite(season), season, rate)
        return rate, slope, np.nan_to_num(own["days"]), rows["day"].to_numpy(), season

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> RateBaselines:
        """Read back `to_dict`.

        Raises:
            DataError: another version wrote it.
        """
        return cls(**{**fields_of(cls, tree), "after": tuple(map(tuple, tree["after"]))})


def bounded(shares: Floats) -> Floats:
    """Numbers (n, K) as probabilities: none below FLOOR, each row's sum 1."""
    kept = np.clip(shares, FLOOR, 1.0)
    return np.asarray(kept / kept.sum(axis=1, keepdims=True))
