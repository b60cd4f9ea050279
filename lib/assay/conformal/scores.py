"""Consumes outcomes, forecasts and quantiles, produces conformity scores (forward) and intervals (inverse).

A conformity score says how far an outcome lies from its forecast. Each kind is one frozen class that holds both
directions side by side: {y : score(y, forecast) <= quantile} must be the interval. Everything is on the model's own
scale (a log target stays a log); turning bounds into the target's unit is the caller's work.

A kind may need several numbers of each row (an error upwards and one downwards), and several conformal quantiles for
one level. `parts` says which: each part is one column of the scores and the coverage that its quantile promises. An
outcome is inside the interval of a level when every part of that level holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay import extensions
from assay.config.conformal import tail_levels
from assay.errors import UserError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """What a model says of rows, on its own scale.

    centre: (n,), the prediction.  scale: (n,), how large an error is usual for the row, above 0; None where nobody
    says.  quantiles: (n, Q) at `quantile_levels`, each row rising; None where the model learned none.
    """

    centre: Floats
    scale: Floats | None = None
    quantiles: Floats | None = None
    quantile_levels: tuple[float, ...] = ()

    @classmethod
    def of(cls, prediction: npt.ArrayLike) -> Forecast:
        """A prediction alone, (n,). Raises ValueError for another shape."""
        centre = _floats(prediction)
        if centre.ndim != 1:
            raise ValueError(f"predictions must be one-dimensional, found shape {centre.shape}")
        return cls(centre)


class Part(NamedTuple):
    """One conformal quantile that intervals need.

    level: position of the promised coverage that it serves.  column: of the scores.  promise: coverage of the quantile
    itself, which is above that of the interval where each end has a quantile of its own.  above_zero: whether scores of
    the column cannot be below 0, so that a quantile can be told in shares of itself.
    """

    level: int
    column: int
    promise: float
    above_zero: bool = False


class ConformalScore(Protocol):
    """A kind of conformity score: stateless, larger where the outcome conforms less to the forecast."""

    @property
    def name(self) -> str:
        """Key in `SCORES`, and what a calibration records."""
        ...

    def parts(self, levels: Sequence[float]) -> tuple[Part, ...]:
        """The quantiles that intervals at these coverages need; P of them, those of a level together."""
        ...

    def score(self, y: npt.ArrayLike, forecast: Forecast, levels: Sequence[float]) -> Floats:
        """Forward. y: (n,) on the model's scale -> (n, S) scores."""
        ...

    def interval(self, forecast: Forecast, quantiles: npt.ArrayLike, levels: Sequence[float]) -> tuple[Floats, Floats]:
        """Inverse. quantiles: (P,) for all rows or (n, P), in the order of `parts` -> lower, upper: (n, L) each."""
        ...


@dataclass(frozen=True)
class AbsoluteResidual:
    """s = |y - prediction|; interval = prediction -/+ quantile (Lei et al. 2018, algorithm 2).

    Scores are in the unit of the model's scale. Bounds are exact up to rounding in the last bit. Missing predictions
    give NaN: nothing is known around them, not even a bound at infinity.
    """

    name: ClassVar[str] = "absolute"

    def parts(self, levels: Sequence[float]) -> tuple[Part, ...]:
        """One quantile per level, all of the one column."""
        return one_column(levels, above_zero=True)

    def score(self, y: npt.ArrayLike, forecast: Forecast, levels: Sequence[float] = ()) -> Floats:
        """Return |y - prediction|, (n, 1); NaN where either is missing. Raises ValueError when the shapes differ."""
        return np.abs(outcomes(y, forecast) - forecast.centre)[:, None]

    def interval(
        self, forecast: Forecast, quantiles: npt.ArrayLike, levels: Sequence[float] = ()
    ) -> tuple[Floats, Floats]:
        """Return prediction - quantile and prediction + quantile; an infinite quantile gives (-inf, inf).

        Bounds are NaN where the prediction is not finite. Raises ValueError when the rows differ.
        """
        half_width, centre = quantile_rows(quantiles, forecast), known_centre(forecast.centre)
        return centre - half_width, centre + half_width


@dataclass(frozen=True)
class SignedResidual:
    """One score upwards, y - prediction, and one downwards; each end of an interval has a quantile of its own.

    Each misses half of what the level lets miss, so both together keep it (Linusson, Johansson and Löfström 2014, by
    the union bound). Errors that lean to one side get intervals that do, at the price of slightly wider ones for those
    that do not. Ends that have crossed, which only negative quantiles can do, are put in order: the interval grows.
    """

    name: ClassVar[str] = "signed"

    def parts(self, levels: Sequence[float]) -> tuple[Part, ...]:
        """Two quantiles per level, of the errors downwards and of those upwards."""
        return tuple(Part(i, column, _half(level)) for i, level in enumerate(levels) for column in (0, 1))

    def score(self, y: npt.ArrayLike, forecast: Forecast, levels: Sequence[float] = ()) -> Floats:
        """Return prediction - y and y - prediction, (n, 2); NaN where either is missing."""
        above = outcomes(y, forecast) - forecast.centre
        return np.column_stack([-above, above])

    def interval(
        self, forecast: Forecast, quantiles: npt.ArrayLike, levels: Sequence[float] = ()
    ) -> tuple[Floats, Floats]:
        """Return prediction - quantile downwards and prediction + quantile upwards."""
        found, centre = quantile_rows(quantiles, forecast), known_centre(forecast.centre)
        return _ordered(centre - found[:, 0::2], centre + found[:, 1::2])


@dataclass(frozen=True)
class NormalisedResidual:
    """s = |y - prediction| / scale; interval = prediction -/+ quantile * scale (Papadopoulos et al. 2008).

    Rows whose error is usually larger get wider intervals. The scale must not have been learned from the rows that are
    scored: then the promise is as exact as without it, whatever the scale is.
    """

    name: ClassVar[str] = "normalised"

    def parts(self, levels: Sequence[float]) -> tuple[Part, ...]:
        """One quantile per level, all of the one column."""
        return one_column(levels, above_zero=True)

    def score(self, y: npt.ArrayLike, forecast: Forecast, levels: Sequence[float] = ()) -> Floats:
        """Return |y - prediction| / scale, (n, 1), without unit. Raises ValueError without a scale."""
        return (np.abs(outcomes(y, forecast) - forecast.centre) / _scale(forecast))[:, None]

    def interval(
        self, forecast: Forecast, quantiles: npt.ArrayLike, levels: Sequence[float] = ()
    ) -> tuple[Floats, Floats]:
        """Return prediction -/+ quantile * scale. Raises ValueError without a scale."""
        half_width = quantile_rows(quantiles, forecast) * _scale(forecast)[:, None]
        centre = known_centre(forecast.centre)
        return centre - half_width, centre + half_width


@dataclass(frozen=True)
class ConformalisedQuantiles:
    """s = max(q_low - y, y - q_high); interval = q_low - quantile, q_high + quantile (Romano et al. 2019, CQR).

    q_low and q_high are the model's own quantiles at (1 - level) / 2 and (1 + level) / 2, so each level has scores of
    its own. They are negative where the model's interval was too wide. Ends that have crossed are put in order.
    """

    name: ClassVar[str] = "cqr"

    def parts(self, levels: Sequence[float]) -> tuple[Part, ...]:
        """One quantile and one column per level."""
        return tuple(Part(i, i, float(level)) for i, level in enumerate(levels))

    def score(self, y: npt.ArrayLike, forecast: Forecast, levels: Sequence[float]) -> Floats:
        """Return the scores of each level, (n, L). Raises ValueError where the model did not learn its quantiles."""
        outcome, (low, high) = outcomes(y, forecast)[:, None], _ends(forecast, levels)
        return np.maximum(low - outcome, outcome - high)

    def interval(self, forecast: Forecast, quantiles: npt.ArrayLike, levels: Sequence[float]) -> tuple[Floats, Floats]:
        """Return q_low - quantile and q_high + quantile."""
        found, (low, high) = quantile_rows(quantiles, forecast), _ends(forecast, levels)
        return _ordered(known_centre(low) - found, known_centre(high) + found)


SCORES: Mapping[str, ConformalScore] = MappingProxyType(
    {kind.name: kind for kind in (AbsoluteResidual(), SignedResidual(), NormalisedResidual(), ConformalisedQuantiles())}
)


def score_named(name: str) -> ConformalScore:
    """Return a score of ours, or of an extension. Raises UserError, which says what to do, where there is none."""
    if name in SCORES:
        return SCORES[name]
    found: ConformalScore = extensions.get("score", name).item
    return found


def extension_of(name: str) -> str:
    """Module that has a score, and the hash of that; empty for one of ours."""
    found = None if name in SCORES else extensions.find("score", name)
    return found.told if found is not None else ""


def check_extension(name: str, told: str) -> None:
    """Refuse a score that is not the one that was calibrated with, by `extension_of` at that time.

    Raises:
        UserError: its module is not here, or has changed since.
    """
    found = extensions.get("score", name, told=told)
    if found.told != told:
        raise UserError(
            f"conformity score {name!r}: module {found.module} is not what the intervals were calibrated with ({told}, "
            f"found {found.told}): restore it, or run calibrate again"
        )


def nested(lower: Floats, upper: Floats, levels: Sequence[float]) -> tuple[Floats, Floats]:
    """Bounds (n, L) such that no level's interval is inside that of a lower one: it grows to hold it.

    Where all levels share a score it changes nothing. Coverage can only rise.
    """
    rising = np.argsort(levels)
    back = np.argsort(rising)
    return np.minimum.accumulate(lower[:, rising], axis=1)[:, back], np.maximum.accumulate(upper[:, rising], axis=1)[
        :, back
    ]


def scores_in(scored: pa.Table) -> Floats:
    """Column `scores` of a table, lists of S numbers each, as (n, S)."""
    column = scored.column("scores").combine_chunks()
    rows = len(column)
    return np.asarray(column.flatten().to_numpy(), dtype=np.float64).reshape(rows, -1 if rows else 1)


def one_column(levels: Sequence[float], *, above_zero: bool = False) -> tuple[Part, ...]:
    """The parts of a score that is one number a row, which may be never below 0: a quantile for each level."""
    return tuple(Part(i, 0, float(level), above_zero) for i, level in enumerate(levels))


def _half(level: float) -> float:
    return tail_levels(level)[1]


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def known_centre(values: Floats) -> Floats:
    """Predictions (n,) as (n, 1), or (n, L) as they are, NaN where they are not finite."""
    column = values[:, None] if values.ndim == 1 else values
    return np.where(np.isfinite(column), column, np.nan)


def outcomes(y: npt.ArrayLike, forecast: Forecast) -> Floats:
    """Outcomes (n,). Broadcasting (n,) against (n, 1) would give n * n scores, so other shapes are refused."""
    outcome = _floats(y)
    if outcome.shape != forecast.centre.shape:
        raise ValueError(f"outcomes have shape {outcome.shape}, predictions {forecast.centre.shape}")
    return outcome


def _scale(forecast: Forecast) -> Floats:
    if forecast.scale is None:
        raise ValueError("normalised scores need a scale per row, and the forecast has none")
    if forecast.scale.shape != forecast.centre.shape:
        raise ValueError(f"scales have shape {forecast.scale.shape}, predictions {forecast.centre.shape}")
    if not (forecast.scale > 0).all():
        raise ValueError(f"{int((~(forecast.scale > 0)).sum())} scales are not above 0")
    return forecast.scale


def _ends(forecast: Forecast, levels: Sequence[float]) -> tuple[Floats, Floats]:
    """The model's quantiles at both ends of each level, (n, L) each."""
    if forecast.quantiles is None:
        raise ValueError("conformalised quantiles need a model of quantiles, and the forecast has none")
    places = {round(level, 9): place for place, level in enumerate(forecast.quantile_levels)}
    wanted = [[round(end, 9) for end in tail_levels(level)] for level in levels]
    missing = sorted({end for ends in wanted for end in ends if end not in places})
    if missing:
        raise ValueError(f"the model learned the quantiles {list(forecast.quantile_levels)}, not {missing}")
    found = np.asarray(forecast.quantiles, dtype=np.float64)
    return found[:, [places[low] for low, _ in wanted]], found[:, [places[high] for _, high in wanted]]


def quantile_rows(quantiles: npt.ArrayLike, forecast: Forecast) -> Floats:
    """Quantiles (n, P), or (1, P) where they are the same for all rows."""
    found = _floats(quantiles)
    rows = len(forecast.centre)
    if found.ndim not in {1, 2} or (found.ndim == 2 and len(found) != rows):
        raise ValueError(f"quantiles of shape {found.shape} do not fit {rows} predictions; expected (P,) or (n, P)")
    return found[None, :] if found.ndim == 1 else found


def _ordered(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    return np.minimum(lower, upper), np.maximum(lower, upper)
