"""Consumes nothing, produces the declarations of monitoring's tables: grain, key, partitions, columns, units."""

from __future__ import annotations

import pyarrow as pa

from assay.runtime.tables import TIME, Table

_RULE = (pa.string(), "what was looked at, such as drift.psi, coverage.80, error, health or webhook")
_SUBJECT = (pa.string(), "of what, such as a feature or a segment; empty for the target as a whole")
_LIMIT = (pa.float64(), "what the value must not pass, in the rule's unit; null where there is none")
_MESSAGE = (pa.string(), "the finding in words")
_TARGET = (pa.string(), "target column")

# Times are as-of times of runs (`--date`), of deliveries also the clock's where it says so.
CHAMPION_ROLE, SHADOW_ROLE = "champion", "shadow"  # of `performance`

ALERTS = Table(
    name="alerts",
    stage="monitoring",
    grain="one alert of a target, from its opening to its recovery",
    key=("alert_id",),
    partition_by=("target",),
    columns={
        "alert_id": (pa.string(), "hash of dataset, target, rule, subject and opened_at"),
        "rule": _RULE,
        "subject": _SUBJECT,
        "status": (pa.string(), "open, or recovered"),
        "level": (pa.string(), "LOW, MEDIUM, HIGH or CRITICAL: of the newest finding, with what it rose by staying"),
        "value": (pa.float64(), "of the newest finding, in the rule's unit; null where it has none"),
        "limit": _LIMIT,
        "message": _MESSAGE,
        "opened_at": (TIME, "its first finding, UTC"),
        "open_since": (TIME, "the same, or when it last came back within its cooldown, UTC"),
        "seen_at": (TIME, "its newest finding, UTC"),
        "examined_at": (TIME, "when it was last looked for, UTC"),
        "seen": (pa.int64(), "runs that found it"),
        "absent_runs": (pa.int64(), "runs in a row that looked for it in vain"),
        "reopened": (pa.int64(), "times that it came back within its cooldown"),
        "escalated_at": (TIME, "when a higher level than before was last told, UTC; null where none was"),
        "recovered_at": (TIME, "its recovery, UTC; null while it is open"),
        "notified_at": (TIME, "when it was last told that it is there, UTC"),
        "notified_level": (pa.string(), "at which level"),
        "told_level": (pa.string(), "the worst level told since open_since; null where nothing was told since"),
        "notice": (pa.string(), "newest notification: opened, escalated, continues, reopened or recovered"),
        "notice_at": (TIME, "of which run, UTC"),
        "notifications": (pa.int64(), "how many there were"),
        "target": _TARGET,
    },
)
ALERT_DELIVERIES = Table(
    name="alert_deliveries",
    stage="monitoring",
    grain="one notification of an alert to one sink",
    key=("notification_id", "sink"),
    partition_by=("target",),
    columns={
        "notification_id": (
            pa.string(),
            "hash of alert, kind, level and raised_at; a receiver drops it the second time",
        ),
        "sink": (pa.string(), "log, or webhook"),
        "status": (pa.string(), "pending, delivered, or failed_for_good: it is too old to be sent"),
        "attempts": (pa.int64(), "times that it was sent, or that sending was tried"),
        "last_error": (pa.string(), "what came of the last attempt that failed; without addresses and secrets"),
        "attempted_at": (TIME, "clock's time of the last attempt, UTC"),
        "next_attempt_at": (TIME, "clock's time before which the receiver wants no other, UTC; null: at the next run"),
        "delivered_at": (TIME, "clock's time of the delivery, UTC; null until then"),
        "message_id": (pa.string(), "idempotency key of the message that delivered it: its own, or a digest's"),
        "alert_id": (pa.string(), "alert of `alerts`"),
        "kind": (pa.string(), "opened, escalated, continues, reopened or recovered"),
        "rule": _RULE,
        "subject": _SUBJECT,
        "level": (pa.string(), "LOW, MEDIUM, HIGH or CRITICAL; of a recovery the worst one told before"),
        "value": (pa.float64(), "of the finding, in the rule's unit; null where it has none"),
        "limit": _LIMIT,
        "message": _MESSAGE,
        "opened_at": (TIME, "the alert's first finding, UTC"),
        "raised_at": (TIME, "run that raised the notification, UTC"),
        "seen": (pa.int64(), "runs that had found the alert by then"),
        "target": _TARGET,
    },
)

DRIFT_DETECTIONS = Table(
    name="drift_detections",
    stage="monitoring",
    grain="one column in one segment, compared between two windows of rows at one date",
    key=("target", "as_of", "column", "segment"),
    partition_by=("target", "as_of"),
    columns={
        "column": (
            pa.string(),
            "input of the champion; prediction, or width_80 and its like; residual",
        ),
        "kind": (
            pa.string(),
            "number or category of an input; prediction, or width; residual: outcome - prediction",
        ),
        "segment": (pa.string(), "segment column=value, several joined by '|', empty for all rows"),
        "reference_start": (TIME, "first time of the reference window, UTC; null from the first row on"),
        "reference_end": (TIME, "end of the reference window, UTC, its own rows before it; null up to the last row"),
        "current_start": (TIME, "the same of the current window"),
        "current_end": (TIME, "the same of the current window"),
        "rows_reference": (pa.int64(), "rows of the reference window"),
        "rows_current": (pa.int64(), "rows of the current window"),
        "missing_reference": (pa.float64(), "share of them without a finite value, 0 to 1"),
        "missing_current": (pa.float64(), "the same of the current window"),
        "median_reference": (pa.float64(), "in the column's unit; null of categories"),
        "median_current": (pa.float64(), "in the column's unit; null of categories"),
        "psi": (pa.float64(), "index of population stability over the reference's deciles, or over categories"),
        "psi_by_chance": (pa.float64(), "what it exceeds in 1 of 20 pairs of windows without drift"),
        "js": (pa.float64(), "distance of Jensen and Shannon over the same bins, 0 to 1"),
        "ks": (pa.float64(), "statistic of Kolmogorov and Smirnov, 0 to 1; null of categories"),
        "error": (pa.float64(), "by how much ks may be wrong at most: 0 of exact ones, more of sketched ones"),
        "ks_p": (pa.float64(), "its p-value, of the least that ks may be: a sketch makes no alarm"),
        "wasserstein": (pa.float64(), "area between the two distribution functions, in the column's unit"),
        "wasserstein_scaled": (pa.float64(), "the same in standard deviations of the reference"),
        "chi2": (pa.float64(), "Pearson's statistic; null of numbers"),
        "chi2_p": (pa.float64(), "its p-value"),
        "missing_p": (pa.float64(), "p-value of his test of the two shares of missing values"),
        "new_share": (pa.float64(), "share of current rows whose category the reference window has not, 0 to 1"),
        "new_categories": (pa.list_(pa.string()), "the most frequent of them"),
        "p": (pa.float64(), "of all tests of the column together (Bonferroni)"),
        "p_adjusted": (pa.float64(), "the same among all columns and segments of the run (Benjamini and Hochberg)"),
        "drifted": (pa.bool_(), "whether there is a reason to say so"),
        "reasons": (pa.list_(pa.string()), "distribution, missing, new_categories"),
        "model_version": (pa.string(), "champion whose inputs and predictions they are"),
        "target": (pa.string(), "target column"),
        "as_of": (pa.string(), "day that the run pretended to be at, YYYY-MM-DD"),
    },
)

# Beside these, per level, coverage_80 (share of known outcomes inside) and width_80 (mean, in the target's unit).
PERFORMANCE = Table(
    name="performance",
    stage="monitoring",
    grain="one day (UTC) of one target's predictions by one model, from the start of the champion's test period on",
    key=("target", "day", "role", "model_version"),
    partition_by=("target",),
    columns={
        "day": (pa.date32(), "day of the rows"),
        "role": (
            pa.string(),
            "champion (the tested model on the rows of its test, then the one that serves), or shadow",
        ),
        "model_version": (pa.string(), "model that predicted"),
        "matured": (pa.bool_(), "whether all outcomes of the day had time to come in"),
        "rows": (pa.float64(), "rows that were to be scored"),
        "unscored_share": (pa.float64(), "rows without a prediction, 0 to 1"),
        "bad_share": (pa.float64(), "rows of quality bad, 0 to 1"),
        "awaited": (pa.float64(), "rows with a prediction and no outcome yet"),
        "awaited_width": (pa.float64(), "their mean width at the first level, in the target's unit"),
        "known": (pa.float64(), "rows with a prediction and an outcome; what follows is of these"),
        "mse": (pa.float64(), "mean squared error, in the target's unit squared"),
        "rmse": (pa.float64(), "its root, in the target's unit"),
        "mae": (pa.float64(), "mean absolute error, in the target's unit"),
        "wape": (pa.float64(), "sum of absolute errors by the sum of absolute outcomes"),
        "bias": (pa.float64(), "mean of prediction - outcome, in the target's unit"),
        "within_20pct": (pa.float64(), "share with an error of at most 20 % of the outcome, 0 to 1"),
        "win_rate": (
            pa.float64(),
            "share of changes against the last known value whose direction was foreseen, 0 to 1",
        ),
        "log_loss": (pa.float64(), "of classes: mean of -log of the probability of what came true"),
        "accuracy": (pa.float64(), "of classes: share predicted right, 0 to 1"),
        "target": (pa.string(), "target column"),
    },
    open_columns=True,
)
HEALTH = Table(
    name="health",
    stage="monitoring",
    grain="one part of the health of one target at one date; the part `all` is the whole",
    key=("target", "as_of", "part"),
    partition_by=("target", "as_of"),
    columns={
        "part": (pa.string(), "all, error, coverage, features, volume, quality, response"),
        "score": (pa.float64(), "0 to 100; null where it could not be told"),
        "weight": (pa.float64(), "its share in the whole, among the parts that could be told"),
        "value": (pa.float64(), "what was seen in the current window, in `unit`"),
        "reference": (pa.float64(), "the same in the reference window, or what is promised"),
        "change": (pa.float64(), "of an error as a share of the reference; of a coverage and of shares the difference"),
        "low": (pa.float64(), "lower end of the change, 95 % one-sided; null of too few days"),
        "high": (pa.float64(), "upper end of the change, likewise"),
        "unit": (pa.string(), "of value and reference"),
        "detail": (pa.string(), "what it was taken from, or why there is none"),
        "model_version": (pa.string(), "champion"),
        "target": (pa.string(), "target column"),
        "as_of": (pa.string(), "day that the run pretended to be at, YYYY-MM-DD"),
    },
)

MONITORING_TABLES = {table.name: table for table in (DRIFT_DETECTIONS, PERFORMANCE, HEALTH, ALERTS, ALERT_DELIVERIES)}
