"""Consumes conformity scores with the times when they became known, produces quantiles that follow the misses.

What `adaptive.py` does for numbered groups and steps, for segment labels and times.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from assay.conformal.adaptive import ScoredRows, adapt
from assay.conformal.calibration import ALL_ROWS, Calibration, SegmentQuantiles, depth, factorise, labels_in, parent
from assay.conformal.class_calibration import ClassCalibration, classes_of
from assay.conformal.pace import Pace
from assay.conformal.scores import Floats, scores_in
from assay.conformal.timeline import Timeline

Times = npt.NDArray[np.datetime64]
DAY_US = 86_400e6


@dataclass(frozen=True)
class Known:
    """Rows whose outcome is known: segment labels (n,), times (n,) in UTC, scores (n, S) on the model's scale."""

    labels: npt.NDArray[np.object_]
    times: Times
    scores: Floats


def known_in(scored: pa.Table) -> Known:
    """Rows of `SCORED`, or of `conformity_scores`, as known rows."""
    label = "label" if "label" in scored.column_names else "segment"
    return Known(
        labels_in(scored.column(label)),
        scored.column("time").to_numpy().astype("datetime64[us]"),
        scores_in(scored),
    )


def latest(known: Known) -> dt.datetime:
    """Time of the newest row. Raises ValueError where there is none."""
    newest: dt.datetime = known.times.max().astype("datetime64[us]").item()
    return newest.replace(tzinfo=dt.timezone.utc)


def after(known: Known, pace: Pace) -> dt.datetime:
    """When the outcomes of all rows are known: the first step that uses all of them."""
    return latest(known) + dt.timedelta(days=pace.delay_days + pace.step_days)


@dataclass(frozen=True)
class Following:
    """Quantiles of each segment at each step.

    origin: time at which step 0 begins.  labels: of the timeline's groups.  by_class: of sets that are calibrated by
    class, the same of the rows of each class, in the order of the classes; else empty.
    """

    origin: dt.datetime
    step_days: float
    labels: tuple[str, ...]
    timeline: Timeline
    by_class: tuple[Following, ...] = ()

    def steps(self, times: Times) -> npt.NDArray[np.int64]:
        """The step that each time (n,) lies in."""
        return steps_of(times, self.origin, self.step_days)

    def quantiles_for(
        self, labels: Sequence[str], rows: npt.NDArray[np.int64], times: Times
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Quantiles (n, P) of rows, and which of `self.labels` they come from (n,).

        labels: distinct ones.  rows: (n,) which of them each row has.  times: (n,), none after the last step. A segment
        that nothing is known of has what its nearest parent has; a time before the first step, what that step has.
        """
        places = {label: place for place, label in enumerate(self.labels)}
        groups = np.array([places[_known(label, places)] for label in labels], dtype=np.int64)[rows]
        steps = np.maximum(self.steps(times), self.timeline.start)
        return self.timeline.quantiles_for(groups, steps), self.timeline.source[steps - self.timeline.start, groups]

    def class_quantiles(self, labels: Sequence[str], rows: npt.NDArray[np.int64], times: Times, classes: int) -> Floats:
        """Quantile of each row, class and level, (n, K, L); the arguments are those of `quantiles_for`."""
        if self.by_class:
            return np.stack([one.quantiles_for(labels, rows, times)[0] for one in self.by_class], axis=1)
        found, _ = self.quantiles_for(labels, rows, times)
        return np.broadcast_to(found[:, None, :], (len(found), classes, found.shape[1]))

    def latest(self) -> dict[str, SegmentQuantiles]:
        """Every segment's quantiles at the last step, for a calibration that is used from then on."""
        rows, quantiles = self.timeline.rows[-1].tolist(), self.timeline.quantiles[-1].tolist()
        pairs = zip(rows, quantiles, strict=True)
        return {label: SegmentQuantiles(n, tuple(q)) for label, (n, q) in zip(self.labels, pairs, strict=True)}

    def table(self, calibration: Calibration) -> dict[str, Any]:
        """Columns of `calibrations`, a row per step, segment and part."""
        told, parts = self.timeline.table(), calibration.parts
        names = pa.array(self.labels, pa.string())
        began = np.datetime64(self.origin.replace(tzinfo=None), "us")
        starts = began + (told["step"] * round(self.step_days * DAY_US)).astype("timedelta64[us]")
        return {
            "segment": names.take(pa.array(told["group"])),
            "used": names.take(pa.array(told["source"])),
            "level": np.array([calibration.levels[part.level] for part in parts])[told["level"]],
            "part": np.array([part.column for part in parts], dtype=np.int64)[told["level"]],
            "quantile": told["quantile"],
            "miscoverage": told["alpha"],
            "rows": told["rows"],
            "valid_from": pa.array(starts).cast(pa.timestamp("us", tz="UTC")),
        }


def followed(
    known: Known,
    calibration: Calibration,
    pace: Pace,
    *,
    origin: dt.datetime,
    until: dt.datetime,
    own: Sequence[str] = (),
) -> Following:
    """Let quantiles follow the misses, from the step of `origin` to that of `until`.

    known: rows before `origin` calibrate; those from it on are judged, too, by the interval that their own step gave
    them. An outcome is used from the first step that begins after it is known: its row's time and the delay.
    calibration: says levels, score and the least rows of a segment.
    own: labels of the classes, with which those of rows begin where sets are calibrated by class: each one's rows
    follow the misses of that class alone, and so do those of all together.
    """
    if own:
        codes, segments = classes_of(known.labels, own)

        def part(which: npt.NDArray[np.bool_] | slice) -> Following:
            rows = Known(segments[which], known.times[which], known.scores[which])
            return followed(rows, calibration, pace, origin=origin, until=until)

        return dataclasses.replace(part(slice(None)), by_class=tuple(part(codes == k) for k in range(len(own))))
    labels, groups, parents = _tree(known.labels)
    delay = np.timedelta64(round(pace.delay_days * DAY_US), "us")
    rows = ScoredRows(
        groups=groups,
        scores=known.scores,
        at=steps_of(known.times, origin, pace.step_days),
        known=steps_of(known.times + delay, origin, pace.step_days) + 1,
    )
    stop = int(steps_of(np.array([until.replace(tzinfo=None)], dtype="datetime64[us]"), origin, pace.step_days)[0]) + 1
    timeline = adapt(rows, parents, pace.adaptation(calibration.parts, calibration.min_segment_rows), stop=max(stop, 1))
    return Following(origin, pace.step_days, labels, timeline)


def served_from(calibration: Calibration, following: Following) -> Calibration:
    """The calibration that is used after the last step: with the quantiles that each segment, and class, has then."""
    found = dataclasses.replace(calibration, quantiles=following.latest())
    if not isinstance(found, ClassCalibration) or not following.by_class:
        return found
    pairs = zip(found.by_class, following.by_class, strict=True)
    return dataclasses.replace(found, by_class=tuple(dataclasses.replace(o, quantiles=f.latest()) for o, f in pairs))


def own_step_days(times: Times) -> float:
    """Least time between two dates of rows, in days, so that no step holds two; one where there are not two dates.

    times: (n,), or whole microseconds since 1970.
    """
    days = np.unique(times.astype("datetime64[us]").astype("datetime64[D]")).astype(np.int64)
    return float(np.diff(days).min()) if len(days) > 1 else 1.0


def steps_of(times: Times, origin: dt.datetime, step_days: float) -> npt.NDArray[np.int64]:
    """Number of the step that each time lies in, 0 beginning at `origin`; exact, for steps of whole microseconds."""
    length = round(step_days * DAY_US)
    since = (times.astype("datetime64[us]") - np.datetime64(origin.replace(tzinfo=None), "us")).astype(np.int64)
    return np.asarray(since // length, dtype=np.int64)


def _tree(labels: npt.NDArray[np.object_]) -> tuple[tuple[str, ...], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All labels with their parents, each row's own group (n,), and the group above each (G,)."""
    own, distinct = factorise(labels)
    found = {ALL_ROWS}
    for own_label in distinct:
        label = own_label
        while label not in found:
            found.add(label)
            label = parent(label)
    ordered = sorted(found, key=lambda label: (depth(label), label))
    places = {label: place for place, label in enumerate(ordered)}
    parents = np.array([-1 if label == ALL_ROWS else places[parent(label)] for label in ordered], dtype=np.int64)
    of_distinct = np.array([places[label] for label in distinct], dtype=np.int64)
    return tuple(ordered), of_distinct[own], parents


def _known(label: str, places: dict[str, int]) -> str:
    while label not in places:
        label = parent(label)
    return label
