"""Consumes losses of champion and challenger summed by day, produces the series that an experiment is judged by.

A loss is any number per row that is 0 or more, and less where a prediction is better: squared or absolute error,
interval score, pinball or log loss. Sums by day are all that is needed: one pass of a group-by delivers them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.errors import DataError
from assay.model.scale import Floats

Days = npt.NDArray[np.datetime64]
PAIRED, ARMS = "paired", "arms"


@dataclass(frozen=True)
class Persistent:
    """Variance of each arm's mean loss that stays however long one waits: entities differ, and keep their arm.

    champion, challenger: of the mean loss per row, in squared units of the loss.  entities: of the smaller arm.
    """

    champion: float
    challenger: float
    entities: int


@dataclass(frozen=True)
class Series:
    """What both models lost, day by day, earliest first; days without rows are left out.

    design: `paired` or `arms`.  days: (D,).  rows: (D,) counted.  weights: (D,) of each day's mean losses; of paired
    rows their number.  champion: (D,) the champion's mean loss times the weight.  difference: (D,) challenger minus
    champion, likewise.  persistent: of arms, what more days do not settle.
    """

    design: str
    days: Days
    rows: Floats
    weights: Floats
    champion: Floats
    difference: Floats
    persistent: Persistent | None = None

    def first(self, days: int) -> Series:
        """The earliest `days` of them."""
        names = ("days", "rows", "weights", "champion", "difference")
        return dataclasses.replace(self, **{name: getattr(self, name)[:days] for name in names})

    @property
    def span(self) -> tuple[dt.date, dt.date] | None:
        """First and last day; None without any."""
        if not len(self.days):
            return None
        first, last = self.days[[0, -1]].astype(dt.date).tolist()
        return first, last

    @property
    def losses(self) -> tuple[float, float]:
        """Mean loss of champion and challenger, NaN without rows."""
        total = float(self.weights.sum())
        if not total:
            return math.nan, math.nan
        champion = float(self.champion.sum())
        return champion / total, (champion + float(self.difference.sum())) / total


@dataclass(frozen=True)
class EntityMoments:
    """Second moments of an arm by entity, over all days. For an entity of n rows whose losses sum to S.

    entities: how many.  squares, products, rows_squared: sums over them of S^2, S * n and n^2.
    """

    entities: int
    squares: float
    products: float
    rows_squared: float


@dataclass(frozen=True)
class Arm:
    """The rows of entities that one model served, by day. For an entity of n rows on a day whose losses sum to S.

    rows, losses: (D,) sums over the day's entities of n and S.  squares, products, rows_squared: (D,) of S^2, S * n and
    n^2.  entities: the same of all days together.
    """

    rows: npt.ArrayLike
    losses: npt.ArrayLike
    squares: npt.ArrayLike
    products: npt.ArrayLike
    rows_squared: npt.ArrayLike
    entities: EntityMoments


def paired_days(days: npt.ArrayLike, rows: npt.ArrayLike, champion: npt.ArrayLike, challenger: npt.ArrayLike) -> Series:
    """The series of rows that both models predict (shadow, canary, and arms whose other prediction is stored).

    days: (D,) dates, or whole days since 1970, in any order.  rows: (D,) with a matured outcome.  champion, challenger:
    (D,) losses summed over them. Each row counts alike.

    Raises:
        DataError: a day comes twice, a sum is not finite or below 0, or rows are no counts.
    """
    at, order = _sorted(days)
    counts = _sums("rows", rows, at, order)
    ours, theirs = _both("losses", champion, challenger, at, order)
    _refuse("losses without a row", at, (counts == 0) & ((ours > 0) | (theirs > 0)))
    some = counts > 0
    return Series(PAIRED, at[some], counts[some], counts[some], ours[some], (theirs - ours)[some])


def arm_days(days: npt.ArrayLike, champion: Arm, challenger: Arm) -> Series:
    """The series of arms of which each entity has one, where a prediction changes what comes of it.

    A day's mean losses are compared, so what happens to all on that day does not count; days have the weights of
    Cochran, Mantel and Haenszel, n m / (n + m) with n and m rows. An entity keeps its arm, and shares of arms stand
    still while an experiment runs: with another share another one begins. Days without rows in an arm are left out.

    days: (D,) dates, or whole days since 1970, in any order.

    Raises:
        DataError: as `paired_days`; an arm has rows and no entities.
    """
    at, order = _sorted(days)
    n, m = _both("rows", champion.rows, challenger.rows, at, order)
    ours, theirs = _both("losses", champion.losses, challenger.losses, at, order)
    _refuse("losses without a row", at, ((n == 0) & (ours > 0)) | ((m == 0) & (theirs > 0)))
    persistent = Persistent(
        _between_entities("champion", champion, at, order),
        _between_entities("challenger", challenger, at, order),
        min(champion.entities.entities, challenger.entities.entities),
    )
    some = (n > 0) & (m > 0)
    n, m = n[some], m[some]
    weights = n * m / (n + m)
    loss, other = ours[some] / n, theirs[some] / m
    return Series(ARMS, at[some], n + m, weights, weights * loss, weights * (other - loss), persistent)


def _between_entities(name: str, arm: Arm, at: Days, order: npt.NDArray[np.intp]) -> float:
    """What losses of an entity on one day tell of those on another, of an arm's mean loss; infinite with one entity.

    Squares of entities' sums less those of their days' are the products of different days, whose mean this is: clusters
    of both kinds, as of Cameron, Gelbach and Miller (2011), "Robust inference with multiway clustering"; their third,
    the days, are the series itself. Losses are taken from their mean, within days from the day's.
    """
    names = ("rows", "losses", "squares", "products", "rows_squared")
    n, s, *moments = (_sums(f"{what} of the {name}", getattr(arm, what), at, order) for what in names)
    total, of = float(n.sum()), arm.entities
    if total and of.entities < 1:
        raise DataError(f"experiment: the {name}'s arm has {total:,.0f} rows of no entity; count its entities")
    if of.entities < 2 or not total:
        return math.inf
    mean = float(s.sum()) / total
    day_mean = np.divide(s, n, out=np.zeros_like(s), where=n > 0)
    between = of.squares - 2 * mean * of.products + mean**2 * of.rows_squared
    within = moments[0] - 2 * day_mean * moments[1] + day_mean**2 * moments[2]
    apart = between * of.entities / (of.entities - 1) - float(within.sum())
    pairs = total**2 - float((n**2).sum())
    return max(0.0, apart / pairs) if pairs else math.inf


def _sorted(days: npt.ArrayLike) -> tuple[Days, npt.NDArray[np.intp]]:
    at = np.atleast_1d(np.asarray(days)).astype("datetime64[D]")
    _refuse("no date", at, np.isnat(at))
    order = np.argsort(at, kind="stable")
    at = at[order]
    _refuse("the same day twice: sum its rows", at, np.append(False, at[1:] == at[:-1])[: len(at)])
    return at, order


def _both(
    what: str, champion: npt.ArrayLike, challenger: npt.ArrayLike, days: Days, order: npt.NDArray[np.intp]
) -> tuple[Floats, Floats]:
    ours = _sums(f"{what} of the champion", champion, days, order)
    return ours, _sums(f"{what} of the challenger", challenger, days, order)


def _sums(name: str, values: npt.ArrayLike, days: Days, order: npt.NDArray[np.intp]) -> Floats:
    found = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if found.shape != days.shape:
        raise ValueError(f"{name}: expected one value for each of {len(days)} days, found shape {found.shape}")
    found = found[order]
    advice = "leave rows whose loss is missing or infinite out for both models, or compare by another loss"
    _refuse(f"{name} that are not finite; {advice}", days, ~np.isfinite(found))
    _refuse(f"{name} below 0; a relative effect needs a loss that is 0 or more", days, found < 0)
    return found


def _refuse(what: str, days: Days, wrong: npt.NDArray[np.bool_]) -> None:
    """Raises DataError if any day is wrong, naming the first and the number of them."""
    if wrong.any():
        raise DataError(
            f"experiment: {np.count_nonzero(wrong)} of {len(days)} days, first {days[wrong][0]}, have {what}"
        )
