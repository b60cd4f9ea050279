"""Consumes scored classes of the calibration period, produces a `ClassCalibration`: probabilities and sets of classes.

Rows that teach the map of probabilities are not those whose scores make the sets. Sets keep their promise where these
scores and those of new rows are exchangeable, which a map that has seen some of them would break: it fits them better
than it fits what is to come.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.conformal.calibration import ALL_ROWS, Calibration, SegmentQuantiles, factorise, fit, segment_labels
from assay.conformal.class_probabilities import ProbabilityMap, read_map
from assay.conformal.class_sets import SET_SCORES, Floats, SetScore
from assay.model.registry import Champion

Flags = npt.NDArray[np.bool_]
CLASSES = "classes"  # key of what only classes have
_KEYS = {"probabilities", "by_class"}


@dataclasses.dataclass(frozen=True)
class ClassCalibration(Calibration):
    """What turns a model's probabilities into calibrated ones and into sets of classes.

    probabilities: the map; None takes them as they are.  by_class: a calibration per class, of rows where it came
    true, in the order of the classes; empty where one serves all classes.

    `quantiles` are of all classes together either way. Without a map and calibrations by class, `to_dict` is that of a
    plain `Calibration`. With `by_class` a class is in the set where its score is within its own quantile, so that of
    rows of every class the promised share holds (Mondrian by label: Vovk, Gammerman and Shafer 2005; Vovk 2012). A
    class of too few rows has an infinite quantile and is in every set: no other class's rows can promise it anything.
    """

    probabilities: ProbabilityMap | None = None
    by_class: tuple[Calibration, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(one.levels != self.levels or one.score != self.score for one in self.by_class):
            raise ValueError("calibrations by class need the levels and the score of the whole")

    @property
    def set_score(self) -> SetScore:
        """The score that makes the sets."""
        return SET_SCORES[self.score]

    def calibrated(self, probabilities: Floats) -> Floats:
        """Probabilities of a model (n, K) -> calibrated ones, (n, K)."""
        return self.probabilities(probabilities) if self.probabilities is not None else probabilities

    def sets(self, probabilities: Floats, labels: npt.ArrayLike, draws: Floats | None) -> Iterator[Flags]:
        """Which classes are in each row's set, (n, K), for each level in order.

        probabilities: (n, K), calibrated.  labels: (n,), of segments.  draws: see `SetScore`.
        """
        return self.sets_within(probabilities, self.class_quantiles(labels, probabilities.shape[1]), draws)

    def sets_within(self, probabilities: Floats, quantiles: Floats, draws: Floats | None) -> Iterator[Flags]:
        """The same of quantiles of each row, class and level, (n, K, L)."""
        for position in range(len(self.levels)):
            yield self.set_score.sets(probabilities, quantiles[:, :, position], draws)

    def class_quantiles(self, labels: npt.ArrayLike, classes: int) -> Floats:
        """Quantile of each row, class and level, (n, K, L).

        Raises ValueError where there are calibrations of another number of classes.
        """
        if not self.by_class:
            found, _ = self.quantiles_for(labels)
            return np.broadcast_to(found[:, None, :], (len(found), classes, len(self.levels)))
        if len(self.by_class) != classes:
            raise ValueError(f"{len(self.by_class)} calibrations by class do not fit {classes} classes")
        return np.stack([one.quantiles_for(labels)[0] for one in self.by_class], axis=1)

    def lines_by_class(self, classes: Sequence[str], target: str) -> list[tuple[str, str, SegmentQuantiles]]:
        """Of the calibration of each class: a label `target=class|segment`, the one that serves it, and quantiles."""
        lines = []
        for own, one in zip(class_labels(classes, target), self.by_class, strict=bool(self.by_class)):
            for label, found in one.quantiles.items():
                lines.append((of_class(own, label), of_class(own, one.label_used(label)), found))
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for strict JSON."""
        own: dict[str, Any] = {}
        if self.probabilities is not None:
            own["probabilities"] = self.probabilities.to_dict()
        if self.by_class:
            own["by_class"] = [one.to_dict() for one in self.by_class]
        return {**super().to_dict(), **({CLASSES: own} if own else {})}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClassCalibration:
        """Return the calibration that `to_dict` wrote, equal to the last bit; a plain `Calibration` too.

        Raises ValueError naming the field for unknown, missing or mistyped fields, and on contradictions.
        """
        own = data.get(CLASSES, {})
        if not isinstance(own, dict) or set(own) - _KEYS:
            raise ValueError(f"{CLASSES}: expected some of the fields {sorted(_KEYS)}, found {own!r}")
        whole = Calibration.from_dict({name: value for name, value in data.items() if name != CLASSES})
        told = own.get("probabilities")
        return cls(
            **{field.name: getattr(whole, field.name) for field in dataclasses.fields(whole)},
            probabilities=read_map(told) if told is not None else None,
            by_class=tuple(Calibration.from_dict(one) for one in own.get("by_class", ())),
        )


def read_calibration(data: Mapping[str, Any], *, classes: bool) -> Calibration:
    """The calibration of a model, of classes or of numbers, that `to_dict` wrote."""
    return ClassCalibration.from_dict(dict(data)) if classes else Calibration.from_dict(dict(data))


def class_labels(classes: Sequence[str], target: str) -> list[str]:
    """Label `target=class` of each class."""
    return [str(segment_labels({target: np.array([name], dtype=object)})[0]) for name in classes]


def labels_by_class(calibration: Calibration, classes: Sequence[str], target: str) -> list[str]:
    """Labels of the classes where sets are calibrated by class; else none."""
    by_class = isinstance(calibration, ClassCalibration) and calibration.by_class
    return class_labels(classes, target) if by_class else []


def of_class(own: str, label: str) -> str:
    """Label of a segment's rows of one class. own: of the class."""
    return f"{own}|{label}" if label != ALL_ROWS else own


def classes_of(
    labels: npt.NDArray[np.object_], own: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_]]:
    """What `of_class` joined: each row's class (n,) and segment label (n,). own: labels of the classes.

    Raises ValueError for a label that begins with none of them.
    """
    rows, distinct = factorise(labels)
    codes, rest = np.full(len(distinct), -1, dtype=np.int64), np.full(len(distinct), ALL_ROWS, dtype=object)
    for k, label in enumerate(own):
        for place, text in enumerate(distinct):
            if text == label or text.startswith(f"{label}|"):
                codes[place], rest[place] = k, text[len(label) + 1 :]
    if strange := [text for text, code in zip(distinct, codes, strict=True) if code < 0]:
        raise ValueError(f"segment {min(strange)!r} is of none of the classes {', '.join(own)}")
    return codes[rows], rest[rows]


def tested_map(found: Champion) -> ProbabilityMap | None:
    """The map of probabilities of a registered version's model that was tested; None without one, and of numbers."""
    told = found.tested.calibration if found.tested is not None else found.calibration
    return ClassCalibration.from_dict(told).probabilities if found.judged.outcome.decides else None


def fit_classes(
    codes: npt.NDArray[np.intp],
    probabilities: Floats,
    labels: npt.NDArray[np.object_],
    draws: Floats,
    levels: Sequence[float],
    *,
    score: str,
    by_class: bool,
    probability_map: ProbabilityMap | None,
    min_segment_rows: int,
    segment_columns: Sequence[str] = (),
    shrinkage_rows: float = 0.0,
) -> ClassCalibration:
    """Return the calibration of classes.

    codes: (n,), of what came true.  probabilities: (n, K) by the model, of rows that neither it nor the map has seen.
    labels: (n,), of segments.  draws: (n,).  The others are those of `fit`.
    """
    p = probability_map(probabilities) if probability_map is not None else probabilities
    scores = SET_SCORES[score].score(codes, p, draws)

    def calibration(which: npt.NDArray[np.bool_] | slice) -> Calibration:
        return fit(
            scores[which],
            labels[which],
            levels,
            min_segment_rows=min_segment_rows,
            segment_columns=segment_columns,
            score=score,
            shrinkage_rows=shrinkage_rows,
        )

    whole = calibration(slice(None))
    return ClassCalibration(
        **{field.name: getattr(whole, field.name) for field in dataclasses.fields(whole)},
        probabilities=probability_map,
        by_class=tuple(calibration(codes == k) for k in range(p.shape[1])) if by_class else (),
    )
