"""Consumes classes that came true, probabilities and quantiles, produces conformity scores and sets of classes.

What `scores.py` is for numbers: {class : score(class, probabilities) <= quantile} is the set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class SetScore(Protocol):
    """A kind of conformity score of classes: stateless, larger where a class conforms less to the probabilities."""

    @property
    def name(self) -> str:
        """Key in `SET_SCORES`, and what a calibration records."""
        ...

    def score(self, codes: npt.ArrayLike, probabilities: npt.ArrayLike) -> Floats:
        """Forward. codes (n,), probabilities (n, K) -> (n,) scores."""
        ...

    def sets(self, probabilities: npt.ArrayLike, quantile: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Inverse. probabilities (n, K), quantile (n,) -> which classes are in each row's set, (n, K)."""
        ...


@dataclass(frozen=True)
class LeastAmbiguous:
    """s = 1 - p(class); set = classes with p >= 1 - quantile (Sadinle, Lei and Wasserman 2019).

    Of all sets with the same coverage these are the smallest on average. A set may be empty: then no class conforms as
    well as the promise needs.
    """

    name: ClassVar[str] = "lac"

    def score(self, codes: npt.ArrayLike, probabilities: npt.ArrayLike) -> Floats:
        """Return 1 - p of what came true, (n,).

        Raises ValueError when the shapes do not fit.
        """
        p, found = np.asarray(probabilities, dtype=np.float64), np.asarray(codes).astype(np.intp)
        if p.ndim != 2 or found.shape != p.shape[:1]:
            raise ValueError(f"probabilities of shape {p.shape} do not fit classes of shape {found.shape}")
        return np.asarray(1.0 - p[np.arange(len(found)), found])

    def sets(self, probabilities: npt.ArrayLike, quantile: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return the classes whose score is at most the quantile; an infinite one gives all of them."""
        p, limit = np.asarray(probabilities, dtype=np.float64), np.asarray(quantile, dtype=np.float64)
        if p.ndim != 2 or limit.shape != p.shape[:1]:
            raise ValueError(f"quantiles of shape {limit.shape} do not fit probabilities of shape {p.shape}")
        return np.asarray((1.0 - p) <= limit[:, None])


SET_SCORES: Mapping[str, SetScore] = MappingProxyType({LeastAmbiguous.name: LeastAmbiguous()})
