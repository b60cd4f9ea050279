"""Consumes probabilities of classes and what came true, produces maps that make probabilities keep their word.

A map is fitted on rows that neither the model nor the sets' scores have seen. It is plain data: JSON, no pickle. Of two
classes the second one's probability is mapped, of several each against all others, and each row's sum is 1 again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from assay.class_metrics import SURE, log_losses
from assay.config import canonical_json
from assay.conformal.venn_abers import Steps, VennAbersPair, fit_venn_abers

Floats = npt.NDArray[np.float64]
HOTTEST = 100.0  # temperatures lie between 1 / HOTTEST and HOTTEST


class ProbabilityMap(Protocol):
    """Probabilities of a model (n, K) -> calibrated probabilities (n, K); each row's sum is 1."""

    @property
    def method(self) -> str:
        """Key in `FITS`."""
        ...

    def __call__(self, probabilities: npt.ArrayLike) -> Floats:
        """Calibrated probabilities, (n, K)."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        ...


@dataclass(frozen=True)
class Temperature:
    """p(k) in proportion to p(k) ** (1 / temperature) (Guo and others 2017): above 1 it makes the sure less sure."""

    temperature: float
    method: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        if not 1 / HOTTEST <= self.temperature <= HOTTEST:
            raise ValueError(f"temperature must be between {1 / HOTTEST:g} and {HOTTEST:g}, found {self.temperature}")

    def __call__(self, probabilities: npt.ArrayLike) -> Floats:
        """See `ProbabilityMap`. The order of classes stays."""
        from scipy.special import softmax

        return np.asarray(softmax(np.log(np.clip(_matrix(probabilities), SURE, 1.0)) / self.temperature, axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"method": self.method, "temperature": self.temperature}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Temperature:
        """Read back `to_dict`."""
        return cls(_number(tree["temperature"]))


class _AsData:
    """Equal where plain data are: arrays have no equality of their own."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _AsData) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(canonical_json(self.to_dict()))


@dataclass(frozen=True, eq=False)
class Isotonic(_AsData):
    """Isotonic regression of each class (Zadrozny and Elkan 2002). curves: (scores, values), both rising, per class."""

    curves: tuple[tuple[Floats, Floats], ...]
    method: ClassVar[str] = "isotonic"

    def __call__(self, probabilities: npt.ArrayLike) -> Floats:
        """See `ProbabilityMap`. Between two scores it is linear."""
        return _each(probabilities, [lambda p, c=c: np.interp(p, *c) for c in self.curves])  # type: ignore[misc]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"method": self.method, "curves": [[x.tolist(), y.tolist()] for x, y in self.curves]}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Isotonic:
        """Read back `to_dict`."""
        curves = tuple((_rising(x), _rising(y)) for x, y in tree["curves"])
        if not curves or any(x.shape != y.shape or not len(x) for x, y in curves):
            raise ValueError("curves: expected as many values as scores, and at least one")
        return cls(curves)


@dataclass(frozen=True, eq=False)
class VennAbers(_AsData):
    """Inductive Venn-Abers predictors, one per class; see `venn_abers`. Never 0 and never 1."""

    pairs: tuple[VennAbersPair, ...]
    method: ClassVar[str] = "venn_abers"

    def __call__(self, probabilities: npt.ArrayLike) -> Floats:
        """See `ProbabilityMap`."""
        return _each(probabilities, [pair.probability for pair in self.pairs])

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "method": self.method,
            "pairs": [
                {name: [s.at.tolist(), s.values.tolist()] for name, s in (("low", pair.low), ("high", pair.high))}
                for pair in self.pairs
            ],
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> VennAbers:
        """Read back `to_dict`."""

        def steps(told: Any, closed: str) -> Steps:
            at, values = map(_rising, told)
            if len(values) != len(at) + 1:
                raise ValueError(f"{len(at)} rises need {len(at) + 1} values, found {len(values)}")
            return Steps(at, values, closed)

        pairs = tuple(VennAbersPair(steps(one["low"], "left"), steps(one["high"], "right")) for one in tree["pairs"])
        if not pairs:
            raise ValueError("pairs: expected at least one")
        return cls(pairs)


def fit_temperature(codes: npt.ArrayLike, probabilities: npt.ArrayLike) -> Temperature:
    """The temperature of least log loss, which is convex in its inverse: one minimum, found by scipy."""
    from scipy.optimize import minimize_scalar

    p = _matrix(probabilities)

    def loss(logarithm: float) -> float:
        return float(log_losses(codes, Temperature(float(np.exp(logarithm)))(p)).mean())

    widest = np.log(HOTTEST) - 1e-9  # rounding must not lead out of what a temperature may be
    return Temperature(float(np.exp(minimize_scalar(loss, bounds=(-widest, widest), method="bounded").x)))


def fit_isotonic(codes: npt.ArrayLike, probabilities: npt.ArrayLike) -> Isotonic:
    """scikit-learn's isotonic regression of each class.

    Bounded by the rule of succession, 1 / (n + 2) and (n + 1) / (n + 2): a class that never came at such a probability
    in n rows may come yet, and a probability of 0 would then cost an infinite log loss.
    """
    from sklearn.isotonic import IsotonicRegression

    def curve(p: Floats, came: Floats) -> tuple[Floats, Floats]:
        least = 1 / (len(p) + 2)
        found = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(p, came)
        return found.X_thresholds_.astype(np.float64), found.y_thresholds_.astype(np.float64)

    return Isotonic(tuple(curve(p, came) for p, came in _one_against_others(codes, probabilities)))


def fit_abers(codes: npt.ArrayLike, probabilities: npt.ArrayLike) -> VennAbers:
    """A Venn-Abers predictor of each class."""
    return VennAbers(tuple(fit_venn_abers(p, came) for p, came in _one_against_others(codes, probabilities)))


Fit = Callable[[npt.ArrayLike, npt.ArrayLike], ProbabilityMap]
FITS: Mapping[str, Fit] = MappingProxyType(
    {Temperature.method: fit_temperature, Isotonic.method: fit_isotonic, VennAbers.method: fit_abers}
)
_READ: Mapping[str, Callable[[Mapping[str, Any]], ProbabilityMap]] = MappingProxyType(
    {
        Temperature.method: Temperature.from_dict,
        Isotonic.method: Isotonic.from_dict,
        VennAbers.method: VennAbers.from_dict,
    }
)


def read_map(tree: Any) -> ProbabilityMap:
    """The map that `to_dict` wrote.

    Raises ValueError for an unknown method, and for data that are none of its own.
    """
    method = str(tree.get("method")) if isinstance(tree, dict) else ""
    if method not in _READ:
        raise ValueError(f"probabilities: unknown method {method!r}; known: {', '.join(sorted(_READ))}")
    try:
        return _READ[method](tree)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"probabilities: this is no map of method {method}: {error}") from None


def _one_against_others(codes: npt.ArrayLike, probabilities: npt.ArrayLike) -> list[tuple[Floats, Floats]]:
    """Probability of a class and whether it came, (n,) each: of the second of two classes, of each of several."""
    p, found = _matrix(probabilities), np.asarray(codes).astype(np.intp)
    if found.shape != p.shape[:1]:
        raise ValueError(f"probabilities of shape {p.shape} do not fit classes of shape {found.shape}")
    mapped = [1] if p.shape[1] == 2 else range(p.shape[1])
    return [(p[:, k], (found == k).astype(np.float64)) for k in mapped]


def _each(probabilities: npt.ArrayLike, curves: list[Callable[[Floats], Floats]]) -> Floats:
    """Every curve on its class, and sums of 1."""
    p = _matrix(probabilities)
    if len(curves) != (1 if p.shape[1] == 2 else p.shape[1]):
        raise ValueError(f"probabilities of {p.shape[1]} classes do not fit {len(curves)} calibrated ones")
    if p.shape[1] == 2:
        second = curves[0](p[:, 1])
        return np.column_stack([1.0 - second, second])
    found = np.column_stack([curve(p[:, k]) for k, curve in enumerate(curves)])
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _matrix(probabilities: npt.ArrayLike) -> Floats:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(f"expected probabilities of two classes or more per row, found shape {p.shape}")
    return p


def _number(value: Any) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise ValueError(f"expected a number, found {value!r}")
    return float(value)


def _rising(values: Any) -> Floats:
    found = np.array([_number(value) for value in values], dtype=np.float64)
    if not ((found >= 0).all() and (found <= 1).all() and (np.diff(found) >= 0).all()):
        raise ValueError("expected numbers from 0 to 1 that do not fall")
    return found
