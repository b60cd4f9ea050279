"""Consumes sums and a sample of evaluated rows, produces what is at risk, and what leaving rows undecided is worth.

Nothing here is a forecast of its own: it says what the intervals would have meant for whoever had gone by them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from assay.evaluation.decisions import ABSTAIN, ACT, REVIEW, Rule, relative_width
from assay.evaluation.over_time import Line, long_lines
from assay.evaluation.parts import DAY
from assay.evaluation.tally import Tally
from assay.runtime.tables import level_label

SHARES = tuple(k / 20 for k in range(1, 21))
FEW, FEW_DAYS = 30, 10
KNOWN_SHARE = 0.10  # of rows whose reference is known, below which a direction is of too few of them
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class LowerBound:
    """What the lower ends of a level's intervals add up to, over rows that have one; in the target's unit.

    rows: how many.  lower, predicted, actual: totals.  below: share of outcomes under their lower end; promised: what
    an interval with equal tails leads one to expect.  shortfall: how far below those were on average; None without any.
    """

    level: float
    rows: int
    lower: float
    predicted: float
    actual: float
    below: float
    promised: float
    shortfall: float | None


@dataclass(frozen=True)
class Abstention:
    """Errors of the rows kept where those with the widest intervals are left undecided.

    shares: of rows kept.  median_ape, mae: of these.  relative: whether widths are over the prediction: then what is
    judged is the median relative error, else the mean error.  area: mean of what is judged over the shares, over that
    of all rows: 1 where widths say nothing, lower is better; ideal: the same where rows are ordered by their errors
    themselves, which no one knows beforehand (area under the risk-coverage curve: Geifman, Uziel and El-Yaniv, 2019).
    """

    level: float
    rows: int
    shares: Sequence[float]
    median_ape: Sequence[float]
    mae: Sequence[float]
    area: float
    ideal: float
    relative: bool = True

    @property
    def judged(self) -> Sequence[float]:
        """The errors that the area is of."""
        return self.median_ape if self.relative else self.mae


@dataclass(frozen=True)
class Action:
    """What a rule said of some rows. share: of all.  median_ape, coverage: theirs; None where there is none."""

    name: str
    rows: int
    share: float
    median_ape: float | None
    coverage: float | None


@dataclass(frozen=True)
class Decided:
    """A rule and what it said."""

    rule: Rule
    actions: Sequence[Action]


@dataclass(frozen=True)
class Direction:
    """How predictions tell up from down. of: `last_value` or `zero`.

    rows: with a known reference.  accuracy: of outcomes that moved, the share whose direction was predicted.
    win_rate: the same of those of them where a move was predicted.  mean_return: of following each prediction by one
    unit, up or down.  sharpe: mean over standard deviation of days' mean returns; None with few days or no spread.
    yearly: the same by the root of days per year.  why: the reason where there is nothing to tell.
    """

    of: str = ""
    rows: int = 0
    accuracy: float = math.nan
    win_rate: float = math.nan
    mean_return: float = math.nan
    sharpe: float | None = None
    yearly: float | None = None
    days: int = 0
    why: str = ""


@dataclass(frozen=True)
class RankedDecisions:
    """How the combined score of several targets orders what came. tenths: mean of what came, best tenth first."""

    targets: Sequence[str]
    rows: int
    correlation: float
    mean: float
    tenths: Sequence[float]


def lower_bounds(tally: Tally, levels: Sequence[float]) -> list[LowerBound]:
    """Of each level, over all rows with a finite lower end."""
    whole = tally.of("").row(0, named=True)
    found = []
    for level in sorted(levels):
        label = level_label(level)
        rows = int(whole[f"lower_value_{label}_rows"])
        if not rows:
            continue
        below = int(whole[f"shortfall_{label}_rows"])
        found.append(
            LowerBound(
                level=level,
                rows=rows,
                lower=float(whole[f"lower_value_{label}_sum"]),
                predicted=float(whole[f"bounded_value_{label}_sum"]),
                actual=float(whole[f"bounded_actual_{label}_sum"]),
                below=below / rows,
                promised=(1 - level) / 2,
                shortfall=float(whole[f"shortfall_{label}_sum"]) / below if below else None,
            )
        )
    return found


def abstention(sample: pl.DataFrame, level: float, typical: float | None = None) -> Abstention | None:
    """The curve of a sample, by relative width at a level; None with few rows, or where all widths are alike."""
    rows = sample.select("actual", "prediction", relative_width(level_label(level), typical).alias("width"))
    rows = rows.with_columns((pl.col("prediction") - pl.col("actual")).abs().alias("error"))
    error, actual = rows["error"].to_numpy(), rows["actual"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        ape = np.where(actual != 0, error / np.abs(actual), np.nan)
    width = rows["width"].fill_null(math.inf).to_numpy()  # what has no interval is left undecided first
    relative = typical is None
    judged = ape if relative else error
    if rows.height < FEW or width.min() == width.max() or not (judged > 0).any():
        return None
    order = np.argsort(width, kind="stable")
    curve, ideal = (_curve(judged[o], median=relative) for o in (order, np.argsort(judged, kind="stable")))
    if not curve[-1] > 0:
        return None
    return Abstention(
        level=level,
        rows=rows.height,
        shares=SHARES,
        median_ape=_curve(ape[order], median=True),
        mae=_curve(error[order], median=False),
        area=float(np.nanmean(curve) / curve[-1]),
        ideal=float(np.nanmean(ideal) / curve[-1]),
        relative=relative,
    )


def _curve(errors: npt.NDArray[np.float64], *, median: bool) -> list[float]:
    """Error of the first rows, by `SHARES`; errors that mean nothing are NaN, and left out."""
    found = []
    for share in SHARES:
        kept = errors[: max(1, round(share * len(errors)))]
        kept = kept[~np.isnan(kept)]
        found.append(float(np.median(kept) if median else kept.mean()) if kept.size else math.nan)
    return found


def decided(table: pl.DataFrame, rules: Sequence[Rule], rows: int) -> list[Decided]:
    """What each rule said, by the segment table."""
    found = []
    for rule in rules:
        part = table.filter(pl.col("segment_column") == rule.name)
        told = {(s, m): (v, n) for s, m, v, n in part.select("segment", "metric", "value", "rows").iter_rows()}
        actions = []
        for name in (ACT, REVIEW, ABSTAIN):
            count = next((n for (segment, _), (_, n) in told.items() if segment == name), 0)
            value, covered = (
                told.get((name, metric), (None, 0))[0]
                for metric in ("median_ape", f"coverage_{level_label(rule.level)}")
            )
            actions.append(Action(name, count, count / rows, value, covered))
        found.append(Decided(rule, actions))
    return found


def direction(tally: Tally, of: str | None, why: str) -> Direction:
    """How predictions tell up from down, or the reason why nothing is said. of: see `Past`."""
    if of is None:
        return Direction(why=why)
    whole = tally.of("").row(0, named=True)
    known, rows = int(whole["returns_rows"]), int(whole["rows"])
    if known < FEW or known < KNOWN_SHARE * rows:
        return Direction(why=f"only {known:,} of {rows:,} rows have a last known value to go up or down from")
    if not whole["called_sum"]:
        return Direction(why="no outcome moved, or no move was predicted")
    days = tally.of(DAY).filter(pl.col("returns_rows") > 0)
    daily = (days["returns_sum"] / days["returns_rows"]).to_numpy()
    sharpe = float(daily.mean() / daily.std(ddof=1)) if len(daily) >= FEW_DAYS and daily.std(ddof=1) > 0 else None
    first, last = (dt_days(days["segment"], how) for how in ("min", "max"))
    per_year = DAYS_PER_YEAR * (len(daily) - 1) / (last - first) if last > first else math.nan
    return Direction(
        of=of,
        rows=known,
        accuracy=float(whole["right_sum"] / whole["moved_sum"]),
        win_rate=float(whole["right_sum"] / whole["called_sum"]),
        mean_return=float(whole["returns_sum"] / known),
        sharpe=sharpe,
        yearly=sharpe * math.sqrt(per_year) if sharpe is not None and not math.isnan(per_year) else None,
        days=len(daily),
    )


def dt_days(days: pl.Series, how: str) -> int:
    """The first (`min`) or last (`max`) of ISO days, as days since 1970."""
    return int(getattr(days.str.to_date().cast(pl.Int32), how)())


def ranked_decisions(score: pl.Series, realised: pl.Series, targets: Sequence[str]) -> RankedDecisions | None:
    """Tenths by score of rows whose outcomes are all known; None with few rows or nothing to order."""
    frame = pl.DataFrame({"score": score, "realised": realised}).drop_nulls().drop_nans()
    if frame.height < FEW or frame["score"].n_unique() < 2 or frame["realised"].n_unique() < 2:
        return None
    ordered = frame.sort("score", descending=True, maintain_order=True)["realised"].to_numpy()
    correlation = frame.select(pl.corr("score", "realised", method="spearman")).item()
    tenths = [float(part.mean()) for part in np.array_split(ordered, 10)]
    return RankedDecisions(targets, frame.height, float(correlation), float(ordered.mean()), tenths)


def risk_lines(found: Sequence[Abstention], directed: Direction) -> pl.DataFrame:
    """Rows of the segment table: errors of the rows kept, by share kept; figures of direction over all rows."""
    lines: list[Line] = []
    for one in found:
        column = f"share kept at {level_label(one.level)}"
        for share, ape, mae in zip(one.shares, one.median_ape, one.mae, strict=True):
            kept = max(1, round(share * one.rows))
            lines += [(column, f"{share:.2f}", "median_ape", ape, None, None, kept)]
            lines += [(column, f"{share:.2f}", "mae", mae, None, None, kept)]
        lines += [(column, "area", "error_over_all", one.area, None, None, one.rows)]
    if not directed.why:
        lines += [
            ("", "", name, value, None, None, directed.rows)
            for name, value in (("sharpe", directed.sharpe), ("sharpe_yearly", directed.yearly))
        ]
    return long_lines(lines)
