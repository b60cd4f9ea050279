"""Consumes a model's figures on the test period, produces verdicts: whether it may be used, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping

from assay.config import AdvancedTrainingConfig
from assay.model.verdict import Verdict
from assay.runtime.progress import figure


def judge(metrics: Mapping[str, float], flags: AdvancedTrainingConfig) -> list[Verdict]:
    """Judge `test_r2`, `test_within_20pct` and `test_rmse` against thresholds and the best baseline.

    A figure that is not a number passes nothing.
    """
    r2, within = metrics["test_r2"], metrics["test_within_20pct"]
    rmse, best = metrics["test_rmse"], metrics["best_baseline_rmse"]
    return [
        Verdict(
            "min_r2",
            r2 >= flags.min_r2_threshold,
            r2,
            flags.min_r2_threshold,
            f"R² on the test period is {r2:.3f}, the least allowed {flags.min_r2_threshold:g} "
            "(training.min_r2_threshold)",
        ),
        Verdict(
            "min_business_accuracy",
            within >= flags.min_business_accuracy,
            within,
            flags.min_business_accuracy,
            f"{within:.1f} % of test predictions are within 20 %, the least allowed {flags.min_business_accuracy:g} % "
            "(training.min_business_accuracy)",
        ),
        Verdict(
            "beats_best_baseline",
            rmse < best,
            rmse,
            best,
            f"RMSE on the test period is {figure(rmse)}, the best baseline's {figure(best)}",
        ),
    ]
