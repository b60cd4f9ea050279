"""Consumes the section `monitoring` of a profile, produces what is watched, over which windows, what is too much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from assay.config.conformal import Share
from assay.config.strict import STRICT

Date = Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]


@dataclass(frozen=True, config=STRICT)
class MonitoringConfig:
    """Two windows of rows are compared, column by column.

    window_days: length of the current window, which ends with the newest row (or at `--date`); None is 28, or eight
        times the least time between two dates where that is longer (56 of weekly rows), and no more than half of the
        time since the reference window began.
    reference_from, reference_until: first day of the reference window and the day after its last; without both it is
        the champion's test period, whose rows it has not learned from.
    reference_version, current_version: versions of `features` to compare instead, each as a whole; -1 compares windows
        of the newest version.
    by: columns whose values make segments that are watched each for itself, beside all rows.
    least_rows: that a window of a segment must have.
    psi: index of population stability above which a column may have drifted.  alpha: expected share of false ones among
        the columns that are called drifted.  missing: change of the share of missing values that is too much.
    new_categories: share of current rows with categories never seen before that is too much.
    task_bytes: of columns that a task holds at once.
    performance, concept: rises of the error, as a share of the reference's, that are called performance drift and
        concept drift where chance does not explain them.  coverage: how much less than promised an interval may hold.
    response_ms: time that a request for one row may take.
    sketch: what windows of many rows are told by: `never` by all values of a column in one task; `always` by sketches,
        with an error that `drift_detections` states; `auto` by sketches where a window has more than exact_rows.
    exact_rows: see sketch.
    sketch_points: of one weight that a sketch keeps, a sketch of 5M rows some 30,000; half as many make the error twice
        as large.
    report: whether a run writes reports/health-TARGET.html.
    """

    window_days: Annotated[float, Field(gt=0)] | None = None
    reference_from: Date = ""
    reference_until: Date = ""
    reference_version: Annotated[int, Field(ge=-1)] = -1
    current_version: Annotated[int, Field(ge=-1)] = -1
    by: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    least_rows: Annotated[int, Field(ge=2)] = 50
    psi: Annotated[float, Field(gt=0)] = 0.1
    alpha: Share = 0.05
    missing: Share = 0.05
    new_categories: Share = 0.01
    performance: Annotated[float, Field(gt=0)] = 0.05
    concept: Annotated[float, Field(gt=0)] = 0.10
    coverage: Share = 0.05
    response_ms: Annotated[float, Field(gt=0)] = 5_000.0
    task_bytes: Annotated[int, Field(ge=1_000_000)] = 512_000_000
    sketch: Literal["auto", "always", "never"] = "auto"
    exact_rows: Annotated[int, Field(ge=1)] = 20_000_000
    sketch_points: Annotated[int, Field(ge=16)] = 8_192
    report: bool = True
