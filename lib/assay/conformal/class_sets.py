"""Consumes classes that came true, probabilities and quantiles, produces conformity scores and sets of classes.

What `scores.py` is for numbers: {class : score(class, probabilities) <= quantile} is the set. Some scores take a draw
per row, which is a hash of its `row_id`: a rerun, another machine and a served model come to the same sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from assay.model.row_sample import ROW, row_hash

Floats = npt.NDArray[np.float64]


class SetScore(Protocol):
    """A kind of conformity score of classes: stateless, larger where a class conforms less to the probabilities.

    draws: (n,), uniform on [0, 1), of the scores that take some (`drawn`); NaN, or None for all rows, where a row has
    none: its score is then the largest that a draw can make, and its set holds those of all draws.
    """

    @property
    def name(self) -> str:
        """Key in `SET_SCORES`, and what a calibration records."""
        ...

    @property
    def drawn(self) -> bool:
        """Whether scores and sets depend on draws."""
        ...

    def score(self, codes: npt.ArrayLike, probabilities: npt.ArrayLike, draws: Floats | None = None) -> Floats:
        """Forward. codes (n,), probabilities (n, K) -> (n,) scores."""
        ...

    def sets(
        self, probabilities: npt.ArrayLike, quantile: npt.ArrayLike, draws: Floats | None = None
    ) -> npt.NDArray[np.bool_]:
        """Inverse. probabilities (n, K), quantile (n,), or (n, K) by class -> what is in each row's set, (n, K)."""
        ...


@dataclass(frozen=True)
class LeastAmbiguous:
    """s = 1 - p(class); set = classes with p >= 1 - quantile (Sadinle, Lei and Wasserman 2019).

    Of all sets with the same coverage these are the smallest on average. A set may be empty: then no class conforms as
    well as the promise needs.
    """

    name: ClassVar[str] = "lac"
    drawn: ClassVar[bool] = False

    def score(self, codes: npt.ArrayLike, probabilities: npt.ArrayLike, draws: Floats | None = None) -> Floats:
        """Return 1 - p of what came true, (n,).

        Raises ValueError when the shapes do not fit.
        """
        p, found = _scored(codes, probabilities)
        return np.asarray(1.0 - p[np.arange(len(found)), found])

    def sets(
        self, probabilities: npt.ArrayLike, quantile: npt.ArrayLike, draws: Floats | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return the classes whose score is at most the quantile; an infinite one gives all of them."""
        p, limit = _limited(probabilities, quantile)
        return np.asarray((1.0 - p) <= limit)


@dataclass(frozen=True)
class Adaptive:
    """s = sum of p over likelier classes + draw * p(class) (APS; Romano, Sesia and Candès 2020).

    Sets hold few classes where the model is sure and many where it is not, so that coverage varies less from row to row
    than with `lac`, at the price of larger sets. The draw makes it exact: without one, all rows whose likeliest class
    did not come true would score 1 if there are two classes, and a promise above the accuracy would need full sets.
    Likelier is larger in p, and of equal ones the earlier class. A set may be empty.
    """

    name: ClassVar[str] = "aps"
    drawn: ClassVar[bool] = True

    def score(self, codes: npt.ArrayLike, probabilities: npt.ArrayLike, draws: Floats | None = None) -> Floats:
        """Return the score of what came true, (n,), from 0 to 1.

        Raises ValueError when the shapes do not fit.
        """
        p, found = _scored(codes, probabilities)
        return self._each(p, _or_else(draws, 1.0, len(p)))[np.arange(len(found)), found]

    def sets(
        self, probabilities: npt.ArrayLike, quantile: npt.ArrayLike, draws: Floats | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return the classes whose score is at most the quantile; an infinite one gives all of them."""
        p, limit = _limited(probabilities, quantile)
        return np.asarray(self._each(p, _or_else(draws, 0.0, len(p))) <= limit)

    def _each(self, p: Floats, draws: Floats) -> Floats:
        """Score of every class, (n, K): one computation for both directions, so that they agree to the last bit."""
        order = np.argsort(-p, axis=1, kind="stable")
        falling = np.take_along_axis(p, order, axis=1)
        likelier = np.zeros_like(falling)
        np.cumsum(falling[:, :-1], axis=1, out=likelier[:, 1:])
        found = np.empty_like(p)
        np.put_along_axis(found, order, likelier + draws[:, None] * falling, axis=1)
        return found


SET_SCORES: Mapping[str, SetScore] = MappingProxyType(
    {LeastAmbiguous.name: LeastAmbiguous(), Adaptive.name: Adaptive()}
)


def draws_of(batch: pa.RecordBatch) -> Floats | None:
    """The draw of each row, (n,), NaN where its `row_id` is null.

    None for a batch without that column, or where it is of another type: a double cannot hold every id.
    """
    if ROW not in batch.schema.names or not pa.types.is_int64(batch.schema.field(ROW).type):
        return None
    column = batch.column(ROW)
    found = uniform(pc.fill_null(column, 0).to_numpy(zero_copy_only=False))
    return np.where(np.asarray(pc.is_valid(column)), found, np.nan)


def uniform(row_ids: npt.NDArray[np.int64]) -> Floats:
    """A number on [0, 1) that is the same for a row wherever it is asked for: the upper 53 bits of its hash."""
    return np.asarray((row_hash(row_ids) >> np.uint64(11)) * 2.0**-53)


def _or_else(draws: Floats | None, otherwise: float, rows: int) -> Floats:
    if draws is None:
        return np.full(rows, otherwise)
    if draws.shape != (rows,):
        raise ValueError(f"draws of shape {draws.shape} do not fit {rows} rows")
    return np.where(np.isnan(draws), otherwise, draws)


def _scored(codes: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.intp]]:
    p, found = np.asarray(probabilities, dtype=np.float64), np.asarray(codes).astype(np.intp)
    if p.ndim != 2 or found.shape != p.shape[:1]:
        raise ValueError(f"probabilities of shape {p.shape} do not fit classes of shape {found.shape}")
    return p, found


def _limited(probabilities: npt.ArrayLike, quantile: npt.ArrayLike) -> tuple[Floats, Floats]:
    p, limit = np.asarray(probabilities, dtype=np.float64), np.asarray(quantile, dtype=np.float64)
    if p.ndim != 2 or (limit.shape != p.shape[:1] and limit.shape != p.shape):
        raise ValueError(f"quantiles of shape {limit.shape} do not fit probabilities of shape {p.shape}")
    return p, limit[:, None] if limit.ndim == 1 else limit
