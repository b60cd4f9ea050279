"""Consumes `conformity_scores` and outcomes that came since, produces the champion's quantiles step by step in time.

A pure function of tables: run again, or after a kill, it gives the same states; as outcomes come in, it goes further.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from assay.config import TargetConfig
from assay.config.dataset import stored_name
from assay.conformal.calibration import Calibration
from assay.conformal.class_calibration import ClassCalibration, labels_by_class, of_class, read_calibration
from assay.conformal.class_rows import CLASS_ROWS_APART, ClassRows, PredictLabelled
from assay.conformal.class_stage import class_scores
from assay.conformal.conformity import SCORED_APART, ConformityScores
from assay.conformal.following import Following, Known, followed, known_in, latest
from assay.conformal.unpriced import Unpriced, split_apart
from assay.errors import DataError
from assay.model.carried import Carried
from assay.model.registry import Champion
from assay.runtime.conditions import Condition, columns_of
from assay.runtime.job import JobContext
from assay.runtime.newest import newest_time
from assay.runtime.plane import Commit, Output, Written
from assay.runtime.tables import ADAPTIVE, CALIBRATIONS, CONFORMITY_SCORES, FEATURES


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A model's quantiles in time.

    later: outcomes that came after its calibration.  unpriced: those of them that no score could be had of.
    """

    calibration: Calibration
    following: Following
    later: int
    unpriced: Unpriced


def adapted(
    context: JobContext,
    target: TargetConfig,
    found: Champion,
    version: int,
    where: Sequence[Condition],
    *,
    ahead: dt.timedelta = dt.timedelta(0),
) -> Adapted | None:
    """Let the champion's quantiles follow the misses up to the newest row; None for one that does not follow.

    version: of the features.  where: which rows are about to be scored.  ahead: how far beyond the newest to go.

    Raises:
        DataError: its scores are not in `conformity_scores`.
    """
    state = adapted_shadow(context, target, found, version, where, ahead=ahead)
    if state is None and follows(found):
        raise DataError(
            f"conformity_scores has none of {target.name} that belong to the champion's calibration "
            f"{found.calibration_version}: run `calibrate`"
        )
    return state


def follows(found: Champion) -> bool:
    """Whether a model's quantiles follow its misses."""
    return "pace" in found.calibration


def adapted_shadow(
    context: JobContext,
    target: TargetConfig,
    found: Champion,
    version: int,
    where: Sequence[Condition],
    *,
    ahead: dt.timedelta = dt.timedelta(0),
) -> Adapted | None:
    """The same for a shadow; None, too, where its scores are no longer on record."""
    if not follows(found):
        return None
    calibration = read_calibration(found.calibration, classes=found.model.outcome.decides)
    own = labels_by_class(calibration, found.model.outcome.classes, target.name)
    assert calibration.pace is not None
    plane, column = context.plane, stored_name(target.name)
    # A later calibration replaces the scores of an earlier one; the table's history still has them.
    details = {"calibration": found.calibration_version}
    commit = plane.last_commit(CONFORMITY_SCORES.name, target.name, details=details)
    if commit is None:
        return None
    with context.reporter.step(f"intervals in time of version {found.label}"):
        base = plane.read(
            CONFORMITY_SCORES.name,
            version=commit.version,
            columns=["time", "segment", "scores"],
            where=[Condition("target", "==", target.name)],
        ).collect()
        known = known_in(base)
        since = latest(known) + dt.timedelta(microseconds=1)
        model, segments = found.model, calibration.segment_columns
        columns = list(dict.fromkeys(["row_id", "time", *model.input_columns, *segments, column]))
        slice_of = [Condition(stored_name(c), "==", v) for c, v in context.config.where]
        outcomes = [*slice_of, Condition(column, "not_null"), Condition("time", ">=", since)]
        rows = plane.read(FEATURES.name, version=version, columns=columns, where=outcomes)
        if isinstance(calibration, ClassCalibration):
            labelled = PredictLabelled(Carried.of(model), segments)
            of_classes, unpriced = split_apart(rows.map(labelled, CLASS_ROWS_APART).collect())
            later = class_scores(ClassRows.of(of_classes, len(model.outcome.classes)), calibration, own)
        else:
            kernel = ConformityScores(
                Carried.of(model), segments, calibration.levels, calibration.score, calibration.difficulty
            )
            later, unpriced = split_apart(rows.map(kernel, SCORED_APART).collect())
        times = plane.read(FEATURES.name, version=version, columns=["time", *_columns(where)], where=where)
        until = max(moment for moment in (latest(known), newest_time(times)) if moment is not None) + ahead
        whole = both(known, known_in(later)) if later.num_rows else known
        origin = found.judged.test_start
        state = followed(whole, calibration, calibration.pace, origin=origin, until=until, own=own)
    return Adapted(calibration, state, later.num_rows, unpriced)


def both(earlier: Known, later: Known) -> Known:
    """Rows of both."""
    return Known(
        np.concatenate([earlier.labels, later.labels]),
        np.concatenate([earlier.times, later.times]),
        np.concatenate([earlier.scores, later.scores]),
    )


def write_states(
    context: JobContext, target: str, found: Champion, state: Adapted, commit: Commit
) -> Sequence[Written]:
    """Each step's quantiles as rows of `calibrations`; in a slot of their own, so that `calibrate` finds its own."""
    commit = dataclasses.replace(commit, slot=f"{commit.slot}: {ADAPTIVE}")
    own = labels_by_class(state.calibration, found.model.outcome.classes, target)
    parts = [_states(state.following, state.calibration, found, target)]
    for label, one in zip(own, state.following.by_class, strict=True):
        parts.append(_states(one, state.calibration, found, target, label))
    schema = CALIBRATIONS.schema()
    return context.plane.rows_of(CALIBRATIONS, schema, pa.concat_tables(parts)).write(
        [Output(CALIBRATIONS, schema, commit, owns={"target": target, "kind": ADAPTIVE})]
    )


def _states(following: Following, calibration: Calibration, found: Champion, target: str, own: str = "") -> pa.Table:
    """Rows of `calibrations`. own: label of the class whose rows these are of, where there is one."""
    schema, columns = CALIBRATIONS.schema(), following.table(calibration)
    if own:
        for name in ("segment", "used"):
            columns[name] = pa.array([of_class(own, label) for label in columns[name].to_pylist()], pa.string())
    rows = len(columns["quantile"])
    told = {
        "score": calibration.score,
        "model_version": found.model.version,
        "calibration_version": found.calibration_version,
        "target": target,
        "kind": ADAPTIVE,
    }
    columns |= {name: pa.repeat(text, rows) for name, text in told.items()}
    return pa.table({field.name: columns[field.name] for field in schema}, schema=schema)


def _columns(where: Sequence[Condition]) -> list[str]:
    return [name for name in columns_of(where) if name != "time"]
